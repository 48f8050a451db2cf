//! What happens to the containers of this machine, as its engine reports it.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

/// The events of containers that have a label, or of all. The stream ends when the engine does.
pub fn of_containers(
    docker: &Docker,
    events: &[&str],
    label: Option<&str>,
) -> BoxStream<'static, EventMessage> {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let mut filters =
        HashMap::from([("type".to_owned(), texts(&["container"])), ("event".to_owned(), texts(events))]);
    filters.extend(label.map(|label| ("label".to_owned(), texts(&[label]))));
    let options = EventsOptions { filters: Some(filters), ..Default::default() };
    let docker = docker.clone();
    stream::once(async move { docker.events(Some(options)).boxed() })
        .flatten()
        .take_while(|event| std::future::ready(event.is_ok()))
        .filter_map(|event| std::future::ready(event.ok()))
        .boxed()
}
