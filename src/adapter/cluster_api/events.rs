//! What happened, through the API.

use async_trait::async_trait;
use reqwest::{Method, Url};

use super::{Again, ClusterApi};
use crate::model::feature::{self, Feature, Needs};
use crate::model::timeline::{EventPage, EventQuery};
use crate::port::cluster::{Cluster as _, ClusterError};
use crate::port::streams::ReadEvents;

impl ClusterApi {
    /// The events of all control machines, merged.
    ///
    /// # Errors
    /// When no control machine answers, the caller may not read them, or control machines are too old.
    pub async fn events(&self, query: &EventQuery) -> Result<EventPage, ClusterError> {
        self.0.answer(Method::GET, &path(query), None::<&()>, Again::Always).await
    }

    /// Checks that every control machine keeps events.
    ///
    /// # Errors
    /// When one is too old, or none answers.
    pub async fn keeps_events(&self) -> Result<(), ClusterError> {
        let needs = Needs { control: [Feature::Events].into_iter().collect(), ..Needs::default() };
        feature::check(needs, &self.snapshot().await?.machines)
            .map_err(|old| ClusterError::Refused { reason: format!("events can't be read: {old}") })
    }
}

#[async_trait]
impl ReadEvents for ClusterApi {
    async fn read_events(&self, query: &EventQuery) -> Result<EventPage, ClusterError> {
        self.events(query).await
    }
}

/// The path below `/v1/`, with its query.
fn path(query: &EventQuery) -> String {
    let mut url = Url::parse("https://control/events").expect("this is a URL");
    {
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("limit", &query.limit.to_string());
        if let Some(since) = query.since {
            pairs.append_pair("since", &since.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        }
        if !query.of.is_empty() {
            pairs.append_pair("of", &query.of.join(","));
        }
    }
    format!("events?{}", url.query().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_in_the_query() {
        let query = EventQuery {
            since: Some("2026-11-28T12:00:00Z".parse().expect("a time")),
            of: vec!["web@1".into(), "i-1".into()],
            limit: 7,
        };
        assert_eq!(path(&query), "events?limit=7&since=2026-11-28T12%3A00%3A00.000Z&of=web%401%2Ci-1");
        assert_eq!(path(&EventQuery { limit: 1, ..EventQuery::default() }), "events?limit=1");
    }
}
