//! What of a request goes into the audit log. Only fields that are listed here do, so that
//! no secret can get there.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::audit::{Class, Outcome};
use crate::model::principal::{Operation, Principal, Target};

/// Whether the operation changes something. Reading is not recorded, and neither are reports
/// of machines on their tasks, which change nothing that runs.
pub fn is_change(operation: Operation) -> bool {
    match operation {
        Operation::Identify
        | Operation::Deploy
        | Operation::Exec
        | Operation::Rollback
        | Operation::RollbackTo
        | Operation::Scale
        | Operation::Remove
        | Operation::Drain
        | Operation::Register
        | Operation::RebootAsk
        | Operation::RebootReturn
        | Operation::TokenCreate
        | Operation::TokenRevoke
        | Operation::ClusterRecover
        | Operation::ClusterRestore
        | Operation::DeployJob
        | Operation::RemoveJob
        | Operation::RunJob
        | Operation::RunCommand
        | Operation::DeployHostFile
        | Operation::RemoveHostFile
        | Operation::Turn => true,
        // Agents ask for access to etcd every 30 s. That they have it is recorded as identities are.
        Operation::EtcdClient
        | Operation::Snapshot
        | Operation::Watch
        | Operation::Metrics
        | Operation::Logs
        | Operation::Deployed
        | Operation::Secrets
        | Operation::RebootState
        | Operation::ReportUnhealthy
        | Operation::EngineGone
        | Operation::Ports
        | Operation::UnitTasks
        | Operation::HostFiles
        | Operation::Keys
        | Operation::HostFileFeed
        | Operation::HostFileReport
        | Operation::Pressure
        | Operation::EngineBack
        | Operation::Audit
        | Operation::Events
        | Operation::ClusterStatus
        | Operation::Standing
        | Operation::Jobs
        | Operation::DeployedJob
        | Operation::OccurrenceLogs
        // What ran is in the history of its job.
        | Operation::Permit
        // Whose credentials were given out is recorded as identities are.
        | Operation::TaskCredentials
        | Operation::TokenList => false,
    }
}

/// The operation's name in the log, such as `deploy` or `token-create`.
pub fn name(operation: Operation) -> String {
    match serde_json::to_value(operation) {
        Ok(Value::String(name)) => name,
        _ => format!("{operation:?}"),
    }
}

/// Who it was, in one word without spaces: an ARN, `token/NAME`, `machine/INSTANCE`,
/// `worker/ADDRESS` or `break-glass`.
pub fn who(principal: &Principal) -> String {
    match principal {
        Principal::Machine { instance, .. } | Principal::FormerWorker { instance: Some(instance), .. } => {
            format!("machine/{instance}")
        }
        Principal::FormerWorker { instance: None, address } => format!("worker/{address}"),
        Principal::Person { arn, session: Some(session) } => format!("{arn}/{session}"),
        Principal::Person { arn, session: None } => arn.clone(),
        Principal::Token { name } => format!("token/{name}"),
        Principal::BreakGlass => "break-glass".to_owned(),
    }
}

/// Whose changes these are.
pub fn class(principal: &Principal) -> Class {
    match principal {
        Principal::Machine { .. } | Principal::FormerWorker { .. } => Class::Machine,
        Principal::Person { .. } | Principal::Token { .. } | Principal::BreakGlass => Class::Person,
    }
}

/// What it was about: `service/web`, `machine/i-1,machine/i-2`, `token/ci`, `task/ID` or `cluster`.
pub fn target(target: &Target) -> String {
    match target {
        Target::Cluster => "cluster".to_owned(),
        Target::Service(name) => format!("service/{name}"),
        Target::Job(name) => format!("job/{name}"),
        Target::HostFile(name) => format!("host-file/{name}"),
        Target::Machines(machines) => {
            machines.iter().map(|machine| format!("machine/{machine}")).collect::<Vec<_>>().join(",")
        }
        Target::Token(name) => format!("token/{name}"),
        Target::Task { id, .. } => format!("task/{id}"),
    }
}

/// What of a request's body is recorded, by operation: a name, and where it stands in the body.
fn asked(operation: Operation) -> &'static [(&'static str, &'static str)] {
    match operation {
        Operation::Deploy => &[
            ("image", "/spec/image"),
            ("digest", "/digest"),
            ("repository", "/origin/repository"),
            ("commit", "/origin/commit"),
        ],
        Operation::Scale => &[("replicas", "/to/replicas"), ("to", "/to")],
        Operation::DeployJob => &[
            ("image", "/spec/runs/image"),
            ("service", "/spec/runs/service"),
            ("digest", "/image/digest"),
            ("schedule", "/spec/schedule/cron"),
        ],
        Operation::DeployHostFile => {
            &[("path", "/path"), ("check", "/check/0"), ("reload", "/reload/command/0")]
        }
        // The program is recorded, and not its arguments, which may hold a secret.
        Operation::RunCommand => &[("program", "/command/0")],
        // Arguments may hold secrets: they are counted.
        Operation::Exec => &[("program", "/command/0")],
        Operation::Drain => &[("force", "/force")],
        Operation::Register => &[("node", "/node")],
        Operation::RebootAsk => &[("boot", "/boot")],
        Operation::ClusterRecover => &[("term", "/log/term"), ("index", "/log/index")],
        Operation::TokenCreate => &[("level", "/level"), ("valid_s", "/valid_s")],
        Operation::Identify
        | Operation::Rollback
        | Operation::RollbackTo
        | Operation::Deployed
        | Operation::Secrets
        | Operation::Remove
        | Operation::RebootReturn
        | Operation::EtcdClient
        | Operation::TokenRevoke
        | Operation::Snapshot
        | Operation::Watch
        | Operation::Metrics
        | Operation::Logs
        | Operation::RebootState
        | Operation::ReportUnhealthy
        | Operation::EngineGone
        | Operation::Ports
        | Operation::HostFiles
        | Operation::RemoveHostFile
        | Operation::Keys
        | Operation::HostFileFeed
        | Operation::HostFileReport
        | Operation::UnitTasks
        | Operation::Pressure
        | Operation::EngineBack
        | Operation::Audit
        | Operation::Events
        | Operation::ClusterStatus
        | Operation::ClusterRestore
        | Operation::Standing
        | Operation::Turn
        | Operation::Jobs
        | Operation::DeployedJob
        | Operation::RemoveJob
        | Operation::RunJob
        | Operation::OccurrenceLogs
        | Operation::Permit
        | Operation::TaskCredentials
        | Operation::TokenList => &[],
    }
}

/// What of the body of a request is recorded.
pub fn details(operation: Operation, body: &[u8]) -> BTreeMap<String, String> {
    let fields = asked(operation);
    if fields.is_empty() {
        return BTreeMap::new();
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let fields = fields.iter().filter_map(|(name, place)| {
        let text = match body.pointer(place)? {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(true) => "true".to_owned(),
            _ => return None,
        };
        Some(((*name).to_owned(), text))
    });
    let mut details: BTreeMap<String, String> = fields.collect();
    if let (Operation::Exec, Some(command)) = (operation, body.pointer("/command").and_then(Value::as_array))
    {
        details.insert("arguments".to_owned(), command.len().saturating_sub(1).to_string());
    }
    details
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// How.
    pub outcome: Outcome,
    /// Why it failed or was refused.
    pub reason: Option<String>,
    /// What it made.
    pub details: BTreeMap<String, String>,
}

/// How the request ended that was answered with `status` and `body`.
pub fn end(operation: Operation, status: u16, body: &[u8]) -> End {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    // 101 begins a stream.
    if status != 101 && !(200..300).contains(&status) {
        let text = |place: &str| body.pointer(place).and_then(Value::as_str);
        let code = text("/error/code").unwrap_or("engine");
        let reason = match code {
            // The engine's own words may quote what it was given: what was tried is enough.
            "engine" => {
                format!("the engine failed: {}", text("/error/about").unwrap_or("see the agent's journal"))
            }
            _ => text("/error/message").unwrap_or("no reason was given").to_owned(),
        };
        let outcome = match code {
            "refused" | "denied" | "unauthorized" | "invalid" => Outcome::Refused,
            _ => Outcome::Failed,
        };
        return End { outcome, reason: Some(reason), details: BTreeMap::new() };
    }
    let waits = match operation {
        Operation::Drain => body.get("done") == Some(&Value::Bool(false)),
        Operation::RebootAsk | Operation::RebootReturn => body.get("wait").is_some() || body == "lapsed",
        _ => false,
    };
    let revision = body.get("revision").and_then(Value::as_u64);
    let details = revision.map(|number| ("revision".to_owned(), number.to_string())).into_iter().collect();
    End { outcome: if waits { Outcome::Waiting } else { Outcome::Done }, reason: None, details }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::machine::Role;

    #[test]
    fn only_what_is_listed_is_recorded() {
        let body = json!({
            "spec": {"name": "web", "image": "team/web", "environment": {"PASSWORD": "hunter2"}, "command": ["--key=hunter2"]},
            "registry": "user:hunter2@registry", "digest": "sha256:0",
            "origin": {"repository": "web", "commit": "abc", "subject": "hunter2"},
            "name": "ci", "level": "deployer", "valid_s": 60, "force": true, "token": "hunter2",
            "node": "n1", "labels": {"secret": "hunter2"}, "boot": "b1", "public_key": "hunter2",
        });
        let body = serde_json::to_vec(&body).expect("JSON");
        for operation in Operation::ALL {
            let found = details(*operation, &body);
            assert!(found.values().all(|value| !value.contains("hunter2")), "{operation:?} {found:?}");
        }
        let found = details(Operation::Deploy, &body);
        assert_eq!(
            found.keys().map(String::as_str).collect::<Vec<_>>(),
            ["commit", "digest", "image", "repository"]
        );
        assert_eq!(details(Operation::TokenCreate, &body)["valid_s"], "60");
        assert_eq!(details(Operation::Drain, b"not json"), BTreeMap::new());
    }

    #[test]
    fn of_a_program_its_name_and_how_many_arguments_it_has_are_recorded() {
        let body = json!({"command": ["psql", "--password=hunter2", "shop"], "input": true});
        let found = details(Operation::Exec, &serde_json::to_vec(&body).expect("JSON"));
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, [("arguments", "2"), ("program", "psql")]);
        assert_eq!(end(Operation::Exec, 101, b"").outcome, Outcome::Done);
    }

    #[test]
    fn an_answer_is_an_outcome() {
        let end = |operation, status, body: Value| {
            super::end(operation, status, &serde_json::to_vec(&body).expect("JSON"))
        };
        let deployed = end(Operation::Deploy, 200, json!({"revision": 7}));
        assert_eq!((deployed.outcome, deployed.details["revision"].as_str()), (Outcome::Done, "7"));
        assert_eq!(end(Operation::Drain, 200, json!({"done": false})).outcome, Outcome::Waiting);
        assert_eq!(end(Operation::Drain, 200, json!({"done": true})).outcome, Outcome::Done);
        assert_eq!(
            end(Operation::RebootAsk, 200, json!({"wait": {"reason": "x"}})).outcome,
            Outcome::Waiting
        );
        assert_eq!(end(Operation::RebootAsk, 200, json!("lapsed")).outcome, Outcome::Waiting);
        assert_eq!(
            end(Operation::RebootAsk, 200, json!({"granted": {"since": 1, "alone": false}})).outcome,
            Outcome::Done
        );
        assert_eq!(end(Operation::RebootReturn, 200, json!("done")).outcome, Outcome::Done);
        let refused =
            end(Operation::Drain, 409, json!({"error": {"code": "refused", "message": "nowhere to go"}}));
        assert_eq!((refused.outcome, refused.reason.as_deref()), (Outcome::Refused, Some("nowhere to go")));
        let failed = end(
            Operation::Deploy,
            502,
            json!({"error": {"code": "engine", "message": "updating: hunter2", "about": "updating a service", "detail": "hunter2"}}),
        );
        assert_eq!(failed.outcome, Outcome::Failed);
        assert_eq!(failed.reason.as_deref(), Some("the engine failed: updating a service"));
        // The answer to a new token holds the token.
        let created = end(Operation::TokenCreate, 200, json!({"version": 1, "token": "hunter2"}));
        assert_eq!((created.outcome, created.details.len(), created.reason), (Outcome::Done, 0, None));
    }

    #[test]
    fn names_are_one_word_and_say_what_they_name() {
        let machine = Principal::Machine { instance: "i-1".parse().expect("an id"), role: Role::Worker };
        assert_eq!(who(&machine), "machine/i-1");
        let ada = Principal::Person { arn: "arn:aws:iam::1:role/ops".into(), session: Some("ada".into()) };
        assert_eq!(who(&ada), "arn:aws:iam::1:role/ops/ada");
        assert_eq!(who(&Principal::BreakGlass), "break-glass");
        let two = Target::Machines(vec!["i-1".parse().expect("an id"), "i-2".parse().expect("an id")]);
        assert_eq!(target(&two), "machine/i-1,machine/i-2");
        assert_eq!(name(Operation::TokenCreate), "token-create");
        assert_eq!(name(Operation::RebootAsk), "reboot-ask");
        for operation in Operation::ALL {
            assert!(!name(*operation).contains(' '), "{operation:?}");
        }
    }
}
