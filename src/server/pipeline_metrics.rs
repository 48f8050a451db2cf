//! The state of the pipeline server in the text format of Prometheus.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::metrics::{self, Metrics, flag, quoted};
use super::pipeline::Pipelines;
use crate::driver::pipeline::retention::Removed;
use crate::driver::pipeline::troubles::{Concern, Troubles};
use crate::model::keep::Kind;

/// `GET /v1/metrics`.
pub(super) async fn metrics(State(server): State<Pipelines>) -> Response {
    let text = text(&server.parts.troubles, &server.parts.removed);
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

fn text(troubles: &Troubles, removed: &Removed) -> String {
    let mut out = Metrics::default();
    let present = troubles.all();
    out.each(
        "fleetwright_pipeline_trouble",
        "Whether something is wrong with the server itself; its pages say what.",
        &Concern::ALL,
        |concern| {
            let is_there = present.iter().any(|trouble| trouble.concern == *concern);
            vec![(format!("concern={}", quoted(concern.word())), flag(is_there))]
        },
    );
    let label = |kind: &Kind| format!("kind={}", quoted(kind.word()));
    out.of(
        "counter",
        "fleetwright_pipeline_removed_total",
        "What was removed since the server began, because it was kept long enough or took too much room.",
        &Kind::ALL,
        |kind| vec![(label(kind), removed.of(*kind).0 as f64)],
    );
    out.of(
        "counter",
        "fleetwright_pipeline_removed_bytes_total",
        "How many bytes that has freed.",
        &Kind::ALL,
        |kind| vec![(label(kind), removed.of(*kind).1 as f64)],
    );
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_concern_and_each_kind_has_a_value_at_all_times() {
        let (troubles, removed) = (Troubles::default(), Removed::default());
        troubles.set(Concern::Disk, Some("full".into()));
        insta::assert_snapshot!(text(&troubles, &removed));
    }
}
