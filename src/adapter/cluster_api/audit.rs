//! The record of changes, from every control machine that answers.

use futures_util::future::join_all;
use reqwest::Url;

use super::{ANSWER, ClusterApi, Trouble, attempt, words};
use crate::model::audit::{AuditEvent, Filter};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::AuditPage;

/// What control machines have recorded.
#[derive(Debug, Default)]
pub struct Recorded {
    /// The events of all of them; the same event may be there twice.
    pub events: Vec<AuditEvent>,
    /// The control machines that did not answer, and why.
    pub silent: Vec<(String, String)>,
}

impl ClusterApi {
    /// The newest `limit` changes of each control machine that `filter` takes. Each machine
    /// records the requests that it answered, so all are asked.
    ///
    /// # Errors
    /// When none answers, or the caller may not read them.
    pub async fn audit(&self, filter: &Filter, limit: u32) -> Result<Recorded, ClusterError> {
        let connected = self.0.connected().await?;
        let asked = connected.endpoints.iter().map(async |endpoint| {
            let answer = async {
                let url = url(endpoint, filter, limit).map_err(|why| Trouble::Unsent(why.clone()))?;
                let request = connected.calls.get(url).timeout(ANSWER).bearer_auth(connected.token.expose());
                let response = attempt(request, endpoint).await?;
                let page: AuditPage =
                    response.json().await.map_err(|error| Trouble::Unanswered(words(&error)))?;
                Ok::<_, Trouble>(page.events)
            };
            (endpoint.clone(), answer.await)
        });
        let mut recorded = Recorded::default();
        let mut answered = false;
        for (endpoint, answer) in join_all(asked).await {
            match answer {
                Ok(events) => {
                    answered = true;
                    recorded.events.extend(events);
                }
                Err(Trouble::Answered(error @ ClusterError::Denied { .. })) => return Err(error),
                Err(Trouble::Answered(error)) => recorded.silent.push((endpoint, error.to_string())),
                Err(Trouble::Unsent(why) | Trouble::Unanswered(why)) => {
                    recorded.silent.push((endpoint, why));
                }
            }
        }
        if answered {
            return Ok(recorded);
        }
        let reason = recorded
            .silent
            .first()
            .map_or_else(|| "no control machine is known".to_owned(), |(_, why)| why.clone());
        Err(ClusterError::Unreachable { endpoint: self.0.described().await, reason })
    }
}

fn url(endpoint: &str, filter: &Filter, limit: u32) -> Result<Url, String> {
    let mut url = Url::parse(&format!("{endpoint}/v1/audit")).map_err(|error| error.to_string())?;
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &limit.to_string());
        if let Some(since) = filter.since {
            query.append_pair("since", &since.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        }
        for (name, value) in [("by", &filter.by), ("target", &filter.target)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_in_the_query() {
        let filter = Filter {
            since: Some("2026-11-28T12:00:00Z".parse().expect("a time")),
            by: Some("ada+1@example.com".into()),
            target: None,
        };
        assert_eq!(
            url("https://10.0.0.1:7443", &filter, 7).expect("a URL").as_str(),
            "https://10.0.0.1:7443/v1/audit?limit=7&since=2026-11-28T12%3A00%3A00.000Z&by=ada%2B1%40example.com"
        );
    }
}
