//! Logs, through the API.

use async_trait::async_trait;
use futures_util::StreamExt;
use reqwest::Url;

use super::ClusterApi;
use crate::model::logs::LogQuery;
use crate::model::name::ServiceName;
use crate::port::cluster::ClusterError;
use crate::port::streams::{LogItems, LogLine, ReadLogs};

/// The query of a request.
fn written(query: &LogQuery) -> String {
    let mut url = Url::parse("https://cluster/").expect("a fixed address");
    {
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("items", "true").append_pair("follow", &query.follow.to_string());
        let since = query.since.map(|at| at.to_rfc3339());
        let until = query.until.map(|at| at.to_rfc3339());
        let tail = query.tail.map(|count| count.to_string());
        let given = [
            ("slot", &query.slot),
            ("since", &since),
            ("until", &until),
            ("grep", &query.grep),
            ("tail", &tail),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                pairs.append_pair(name, value);
            }
        }
    }
    url.query().unwrap_or_default().to_owned()
}

#[async_trait]
impl ReadLogs for ClusterApi {
    async fn read_logs(&self, service: &ServiceName, query: &LogQuery) -> Result<LogItems, ClusterError> {
        let path = format!("services/{service}/logs?{}", written(query));
        let lines = self.0.open::<LogLine>(&path).await?;
        let endpoint = self.0.described().await;
        Ok(lines
            .map(move |line| match line {
                Ok(line) => line.item(&endpoint),
                Err(reason) => Err(ClusterError::Unreachable { endpoint: endpoint.clone(), reason }),
            })
            .boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_written_so_that_every_text_arrives() {
        let query = LogQuery {
            slot: Some("1".to_owned()),
            since: Some("2026-11-29T10:00:00+01:00".parse().expect("a time")),
            grep: Some("a&b=\"c\" +é".to_owned()),
            ..LogQuery::default()
        };
        assert_eq!(
            written(&query),
            "items=true&follow=false&slot=1&since=2026-11-29T09%3A00%3A00%2B00%3A00&grep=a%26b%3D%22c%22+%2B%C3%A9"
        );
    }
}
