//! The log lines of all instances of a service, with the instance and the machine before each.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::BollardRequest;
use bollard::models::{Service, Task};
use bollard::query_parameters::LogsOptions;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;

use super::engine::Engine;
use super::observe::{self, INSTANCE, Observed};
use crate::port::cluster::ClusterError;

/// The lines of `service`, as `NAME@SLOT MACHINE | text`.
pub fn stream(
    engine: &Engine,
    observed: Observed,
    service: &Service,
    tail: u32,
    follow: bool,
) -> BoxStream<'static, Result<String, ClusterError>> {
    let options =
        LogsOptions { follow, stdout: true, stderr: true, tail: tail.to_string(), ..Default::default() };
    let name = observe::name_of(service).unwrap_or_default().to_owned();
    let id = service.id.clone().unwrap_or_default();
    let names = Arc::new(Names {
        engine: engine.clone(),
        name: name.clone(),
        known: Mutex::new(prefixes(&observed, &name)),
    });
    let docker = engine.docker().clone().with_request_modifier(with_details);
    let engine = engine.clone();
    stream::once(async move { docker.service_logs(&id, Some(options)).boxed() })
        .flatten()
        .then(move |output| {
            let names = Arc::clone(&names);
            let engine = engine.clone();
            async move {
                let output =
                    output.map_err(|error| engine.error(format!("reading logs of {}", names.name), error))?;
                Ok(names.line(&String::from_utf8_lossy(&output.into_bytes())).await)
            }
        })
        .boxed()
}

/// Asks for the details that tell which task a line is of: the client's options lack them.
fn with_details(mut request: BollardRequest) -> BollardRequest {
    let detailed = request.uri().to_string() + "&details=true";
    if let Ok(uri) = detailed.parse() {
        *request.uri_mut() = uri;
    }
    request
}

struct Names {
    engine: Engine,
    name: String,
    known: Mutex<HashMap<String, String>>,
}

impl Names {
    async fn line(&self, raw: &str) -> String {
        let (task, text) = split(raw.trim_end_matches(['\n', '\r']));
        let mut known = self.known.lock().await;
        if !known.contains_key(task)
            && let Ok(observed) = self.engine.observe().await
        {
            // A task that was started after the stream began.
            known.extend(prefixes(&observed, &self.name));
        }
        match known.get(task) {
            Some(prefix) => format!("{prefix} | {text}"),
            None => format!("{} - | {text}", self.name),
        }
    }
}

/// Splits the details that the engine puts before a line: the task's id and the line.
fn split(raw: &str) -> (&str, &str) {
    let Some((details, text)) = raw.split_once(' ') else { return ("", raw) };
    let task = details.split(',').find_map(|pair| pair.strip_prefix("com.docker.swarm.task.id="));
    task.map_or(("", raw), |task| (task, text))
}

fn prefixes(observed: &Observed, name: &str) -> HashMap<String, String> {
    let prefix = |task: &Task| -> Option<(String, String)> {
        let node = observed.nodes.iter().find(|node| node.id == task.node_id);
        let machine = node.and_then(|node| observe::label(node, INSTANCE)).unwrap_or("-");
        let slot = match task.slot {
            Some(slot) if slot > 0 => slot.to_string(),
            _ => machine.to_owned(),
        };
        Some((task.id.clone()?, format!("{name}@{slot} {machine}")))
    };
    let Some(service) = observed.service(name) else { return HashMap::new() };
    observed.tasks_of(service).filter_map(prefix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_taken_off_a_line() {
        let raw = "com.docker.swarm.node.id=n1,com.docker.swarm.service.id=s1,com.docker.swarm.task.id=t1 GET / 200";
        assert_eq!(split(raw), ("t1", "GET / 200"));
        assert_eq!(split("plain"), ("", "plain"));
        assert_eq!(split("two words"), ("", "two words"));
    }
}
