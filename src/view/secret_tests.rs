//! A secret in any field of any event reaches no view.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::paint::Paint;
use super::{pipeline, roll, stacks};
use crate::event::local::LocalEvent;
use crate::event::pipeline::PipelineEvent;
use crate::event::roll::RollEvent;
use crate::event::rollout::RolloutEvent;
use crate::event::stack::StackEvent;
use crate::event::{EventKind, Events};
use crate::model::redact::Mask;

/// One event of each variant, every field filled.
fn samples() -> Vec<EventKind> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let commit = "b".repeat(40);
    let started = json!({ "what": "started", "service": "web", "revision": 71, "digest": digest });
    let progress =
        json!({ "what": "progress", "service": "web", "revision": 71, "healthy": 72, "desired": 73 });
    let ended =
        json!({ "what": "ended", "service": "web", "revision": 71, "state": "rolled-back", "reason": "r" });
    let mut samples: Vec<Value> = [
        json!({ "what": "queued", "pipeline": "web", "commit": commit, "subject": "s", "trigger": "poll" }),
        json!({ "what": "started", "pipeline": "web", "commit": commit, "subject": "s", "steps": ["a", "b"] }),
        json!({ "what": "resumed", "pipeline": "web", "step": "s" }),
        json!({ "what": "step-started", "step": "s" }),
        json!({ "what": "nothing-to-build", "step": "s", "key": format!("k-{}", "c".repeat(64)), "digest": digest,
            "same_as": { "run": 74, "commit": commit } }),
        json!({ "what": "building", "step": "s", "key": format!("k-{}", "c".repeat(64)), "files": 75 }),
        json!({ "what": "pushing", "step": "s", "reference": "r" }),
        json!({ "what": "pushed", "step": "s", "digest": digest }),
        json!({ "what": "rollout", "step": "s", "rollout": started }),
        json!({ "what": "log", "step": "s", "text": "t" }),
        json!({ "what": "asking", "step": "s", "message": "m" }),
        json!({ "what": "shell", "step": "s", "by": "b", "program": "p" }),
        json!({ "what": "retrying", "step": "s", "reason": "r", "attempt": 76, "seconds": 77.5 }),
        json!({ "what": "step-finished", "step": "s", "outcome": "failed", "seconds": 77.5, "reason": "r" }),
        json!({ "what": "finished", "pipeline": "web", "state": "failed", "seconds": 0.0, "reason": "r" }),
    ]
    .into_iter()
    .map(|mut event| {
        event["run"] = json!(78);
        json!({ "pipeline": event })
    })
    .collect();
    samples.extend([
        json!({ "rollout": started }),
        json!({ "rollout": progress }),
        json!({ "rollout": ended }),
        json!({ "rollout": { "what": "pre-deploy", "service": "web", "revision": 71, "state": "running" } }),
        json!({ "stack": { "what": "started", "stack": "s", "work": "wait", "resources": 79 } }),
        json!({ "stack": { "what": "resource", "stack": "s", "resource": "r", "resource_type": "AWS::EC2::VPC",
            "status": "CREATE_FAILED", "reason": "r" } }),
        json!({ "stack": { "what": "said", "stack": "s", "text": "t" } }),
        json!({ "stack": { "what": "finished", "stack": "s", "outcome": "failed", "seconds": 77.5,
            "failure": { "cause": "c", "at": "a", "next": "n" } } }),
        json!({ "roll": { "what": "began", "group": "g", "machines": ["m", "n"], "resumed": false } }),
        json!({ "roll": { "what": "capacity", "group": "g", "desired": 80, "max": 81 } }),
        json!({ "roll": { "what": "draining", "group": "g", "machines": ["m"] } }),
        json!({ "roll": { "what": "terminating", "group": "g", "machines": ["m"] } }),
        json!({ "roll": { "what": "waiting", "group": "g", "text": "t" } }),
        json!({ "roll": { "what": "done", "group": "g", "replaced": ["m"], "seconds": 77.5 } }),
        json!({ "local": { "what": "started", "step": "s", "detail": "d" } }),
        json!({ "local": { "what": "progress", "step": "s", "detail": "d", "bytes": 82 } }),
        json!({ "local": { "what": "finished", "step": "s", "outcome": "o", "seconds": 77.5, "bytes": 82 } }),
        json!({ "local": { "what": "power-cycle", "machines": ["m", "n"], "seed": 83 } }),
        json!({ "local": { "what": "power-cut", "instance": "i", "seconds": 77.5 } }),
        json!({ "local": { "what": "power-on", "instance": "i", "seconds": 77.5 } }),
        json!({ "note": { "text": "t" } }),
    ]);
    samples.into_iter().map(|sample| serde_json::from_value(sample).expect("an event")).collect()
}

/// The variant's number. A new variant needs a number here, and a sample above.
fn variant(event: &EventKind) -> usize {
    match event {
        EventKind::Note { .. } => 0,
        EventKind::Pipeline(event) => match event {
            PipelineEvent::Queued { .. } => 1,
            PipelineEvent::Started { .. } => 2,
            PipelineEvent::Resumed { .. } => 3,
            PipelineEvent::StepStarted { .. } => 4,
            PipelineEvent::NothingToBuild { .. } => 5,
            PipelineEvent::Building { .. } => 6,
            PipelineEvent::Pushing { .. } => 7,
            PipelineEvent::Pushed { .. } => 8,
            PipelineEvent::Rollout { .. } => 9,
            PipelineEvent::Log { .. } => 10,
            PipelineEvent::Retrying { .. } => 11,
            PipelineEvent::StepFinished { .. } => 12,
            PipelineEvent::Finished { .. } => 13,
            PipelineEvent::Asking { .. } => 34,
            PipelineEvent::Shell { .. } => 35,
        },
        EventKind::Rollout(event) => match event {
            RolloutEvent::Started { .. } => 14,
            RolloutEvent::Progress { .. } => 15,
            RolloutEvent::Ended { .. } => 16,
            RolloutEvent::PreDeploy { .. } => 33,
        },
        EventKind::Stack(event) => match event {
            StackEvent::Started { .. } => 17,
            StackEvent::Resource { .. } => 18,
            StackEvent::Said { .. } => 19,
            StackEvent::Finished { .. } => 20,
        },
        EventKind::Roll(event) => match event {
            RollEvent::Began { .. } => 21,
            RollEvent::Capacity { .. } => 22,
            RollEvent::Draining { .. } => 23,
            RollEvent::Terminating { .. } => 24,
            RollEvent::Waiting { .. } => 25,
            RollEvent::Done { .. } => 26,
        },
        EventKind::Local(event) => match event {
            LocalEvent::Started { .. } => 27,
            LocalEvent::Progress { .. } => 28,
            LocalEvent::Finished { .. } => 29,
            LocalEvent::PowerCycle { .. } => 30,
            LocalEvent::PowerCut { .. } => 31,
            LocalEvent::PowerOn { .. } => 32,
        },
    }
}

/// The paths of all strings and numbers in `value`.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), found))
        }
        Value::Array(values) => {
            values
                .iter()
                .enumerate()
                .for_each(|(index, value)| leaves(value, &format!("{at}/{index}"), found));
        }
        Value::String(_) | Value::Number(_) => found.push(at.to_owned()),
        Value::Bool(_) | Value::Null => {}
    }
}

/// Every event that can be made by putting `secret` into one field of one sample.
fn events_with(secret: &str) -> Vec<(String, EventKind)> {
    let mut made = Vec::new();
    for sample in samples() {
        let json = serde_json::to_value(&sample).expect("JSON");
        let mut paths = Vec::new();
        leaves(&json, "", &mut paths);
        // A run's number is our own count, and in the address of its page.
        for path in paths.into_iter().filter(|path| path != "/pipeline/run") {
            let number = secret.parse::<u32>().ok();
            let with = match (json.pointer(&path), number) {
                (Some(Value::Number(_)), Some(number)) => json!(number),
                (Some(Value::Number(_)), None) => continue,
                _ => json!(format!("<{secret}>")),
            };
            // Names, digests and the like admit no such text: no event can have it there.
            for with in [with, json!(secret)] {
                let mut json = json.clone();
                *json.pointer_mut(&path).expect("the path is of this value") = with;
                if let Ok(event) = serde_json::from_value(json) {
                    made.push((path.clone(), event));
                }
            }
        }
    }
    made
}

/// All that views make of an event.
fn shown(event: EventKind) -> Vec<String> {
    let mut shown = Vec::new();
    let mut board = stacks::Board::new(["s"], Paint(false), true);
    match &event {
        EventKind::Pipeline(event) => shown.extend(pipeline::Lines::new(Paint(false)).line(event)),
        EventKind::Roll(event) => shown.push(roll::line(event).text),
        EventKind::Stack(event) => shown.extend(board.take(event)),
        EventKind::Note { text } => shown.push(text.clone()),
        // Their texts are printed as they are.
        EventKind::Rollout(_) | EventKind::Local(_) => {}
    }
    shown.push(serde_json::to_string(&event).expect("JSON"));
    shown
}

/// The strings, keys and numbers of a document.
fn words(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            found.push(key.clone());
            words(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| words(value, found)),
        Value::String(text) => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Bool(_) | Value::Null => {}
    }
}

fn reaches_no_view(secret: &str) {
    let mask = Mask::default();
    mask.learn(secret);
    for (path, event) in events_with(secret) {
        let (events, mut receiver) = Events::masked(mask.clone());
        events.emit(event.clone());
        let received = receiver.try_recv().expect("every event is emitted, or one that says why not").kind;
        let mut found = Vec::new();
        words(&serde_json::to_value(&received).expect("JSON"), &mut found);
        for text in shown(received).into_iter().chain(found) {
            assert!(!text.contains(secret), "`{secret}` at {path} of {event:?} is in: {text}");
        }
    }
}

#[test]
fn every_variant_has_a_sample() {
    let variants: BTreeSet<usize> = samples().iter().map(variant).collect();
    assert_eq!(variants, (0..36).collect());
}

/// At e1e3c77 an event was masked as JSON text, and shown as it was when that no longer parsed.
#[test]
fn a_secret_that_breaks_json_is_masked_all_the_same() {
    for secret in ["1234", "\":\",\"", "\\\"x\\\"", "{\"a\":1}", "true", "null", "0\",\"x", "ünï\u{1b}[0m"]
    {
        reaches_no_view(secret);
    }
}

#[test]
fn an_event_with_a_secret_in_a_number_is_withheld() {
    let mask = Mask::default();
    mask.learn("1234");
    let (events, mut receiver) = Events::masked(mask);
    events.emit(EventKind::Roll(RollEvent::Capacity { group: "g".into(), desired: 1234, max: 2 }));
    events.emit(EventKind::Roll(RollEvent::Capacity { group: "g-1234".into(), desired: 12, max: 2 }));
    let texts: Vec<EventKind> =
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|event| event.kind).collect();
    let withheld =
        EventKind::Note { text: "an event is withheld: it cannot be shown without a secret".into() };
    let masked = EventKind::Roll(RollEvent::Capacity { group: "g-[redacted]".into(), desired: 12, max: 2 });
    assert_eq!(texts, [withheld, masked]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    // No letters: a secret that is one of our own words would be found in those.
    #[test]
    fn no_secret_in_any_field_reaches_a_view(secret in "[0-9\"\\\\{}:,+/=&%\u{e9}\u{20ac}]{5,16}") {
        prop_assume!(!secret.starts_with("0.") && secret.trim() == secret);
        reaches_no_view(&secret);
    }
}
