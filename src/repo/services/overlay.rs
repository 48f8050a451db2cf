//! A service in one environment: its own keys, merged with the environment's.

use std::collections::BTreeMap;

use crate::model::name::EnvironmentName;
use crate::repo::decode::Reader;
use crate::source::Diagnostic;
use crate::yaml::{Kind, Node, Scalar};

/// Old names of keys, with their present ones.
const FORMER: [(&str, &str); 2] = [("environment", "env"), ("drain", "stop_grace_period")];

/// Renames keys with old names, and reports them.
pub fn rename(reader: &mut Reader<'_>, service: &mut Node) {
    let Kind::Mapping(entries) = &mut service.kind else { return };
    let has = |entries: &[(Node, Node)], name: &str| entries.iter().any(|(key, _)| key.text() == Some(name));
    for (former, present) in FORMER {
        if !has(entries, former) {
            continue;
        }
        let both = has(entries, present);
        for (key, _) in entries.iter_mut().filter(|(key, _)| key.text() == Some(former)) {
            report(reader, key, former, &format!("`{present}`"), both);
            if !both {
                rename_key(key, present);
            }
        }
        if both {
            entries.retain(|(key, _)| key.text() != Some(former));
        }
    }
    let both = has(entries, "resources");
    for (key, value) in entries.iter_mut().filter(|(key, _)| key.text() == Some("limits")) {
        report(reader, key, "limits", "`limits` of `resources`", both);
        if !both {
            let limits = (key.clone(), value.clone());
            *value = Node { span: value.span, tag: None, kind: Kind::Mapping(vec![limits]) };
            rename_key(key, "resources");
        }
    }
    if both {
        entries.retain(|(key, _)| key.text() != Some("limits"));
    }
}

fn rename_key(key: &mut Node, present: &str) {
    key.kind = Kind::Scalar { text: present.to_owned(), plain: true };
}

fn report(reader: &mut Reader<'_>, key: &Node, former: &str, present: &str, both: bool) {
    let message = format!("`{former}` is the old name of {present}");
    if both {
        let diagnostic = Diagnostic::error("conflicting-keys", message);
        reader.problem(diagnostic, key.span, "both are given: remove this one");
    } else {
        let diagnostic = Diagnostic::warning("former-key", message);
        reader.problem(diagnostic, key.span, format!("write {present}"));
    }
}

/// What `own`, the value of the key `environments`, makes of `base` in each environment. `known` are the
/// project's environments; none where they are not known.
pub fn in_environments<T>(
    reader: &mut Reader<'_>,
    (base, own): (&Node, Option<&Node>),
    known: &[EnvironmentName],
    prepare: impl Fn(&mut Reader<'_>, &mut Node),
    mut decode: impl FnMut(&mut Reader<'_>, &Node, &Node) -> Option<T>,
) -> BTreeMap<EnvironmentName, T> {
    let mut found = BTreeMap::new();
    let own = own.map(|own| reader.entries(own, "`environments`")).unwrap_or_default();
    for (key, value) in own {
        let Some(environment) = reader.name::<EnvironmentName>(key) else { continue };
        if !known.is_empty() && !known.contains(&environment) {
            let known: Vec<&str> = known.iter().map(EnvironmentName::as_str).collect();
            let message = format!("there is no environment `{environment}`");
            let diagnostic = Diagnostic::error("unknown-environment", message);
            let place = "`environments` of fleetwright.yaml";
            crate::repo::did_you_mean(reader, diagnostic, key.span, environment.as_str(), &known, place);
            continue;
        }
        let mut value = value.clone();
        prepare(reader, &mut value);
        if let Some((key, _)) = value.entry("environments") {
            let diagnostic = Diagnostic::error("unknown-key", "`environments` can't be nested");
            reader.problem(diagnostic, key.span, "remove it");
            continue;
        }
        if let Some(decoded) = decode(reader, key, &merged(base, &value)) {
            found.insert(environment, decoded);
        }
    }
    found
}

/// `base` with what `own` says in its place: mappings are merged by their keys, anything else
/// replaces what was there, and a key without a value takes it away.
pub fn merged(base: &Node, own: &Node) -> Node {
    let mut merged = base.clone();
    if let Kind::Mapping(entries) = &mut merged.kind {
        entries.retain(|(key, _)| key.text() != Some("environments"));
    }
    merge(&mut merged, own);
    merged
}

fn merge(base: &mut Node, own: &Node) {
    let (Kind::Mapping(entries), Kind::Mapping(news)) = (&mut base.kind, &own.kind) else {
        *base = own.clone();
        return;
    };
    for (key, value) in news {
        let at = entries.iter().position(|(known, _)| known.text() == key.text());
        match at {
            Some(at) if value.scalar() == Some(Scalar::Null) => drop(entries.remove(at)),
            Some(at) => merge(&mut entries[at].1, value),
            None => entries.push((key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;

    fn node(text: &str) -> Node {
        crate::yaml::parse(&SourceFile::new("f.yaml", text), &mut Vec::new()).expect("YAML")
    }

    fn json(node: &Node) -> serde_json::Value {
        match (&node.kind, node.scalar()) {
            (Kind::Mapping(entries), _) => {
                let entries =
                    entries.iter().map(|(key, value)| (key.text().unwrap_or("").to_owned(), json(value)));
                serde_json::Value::Object(entries.collect())
            }
            (Kind::Sequence(items), _) => items.iter().map(json).collect(),
            (_, Some(Scalar::Integer(number))) => number.into(),
            _ => node.text().unwrap_or("").into(),
        }
    }

    #[test]
    fn mappings_are_merged_and_everything_else_is_replaced() {
        let base = node(
            "image: a\nreplicas: 2\nenv: {A: x, B: y}\nports: [1]\nhealth: {http: /, port: 1}\nenvironments: {p: {}}",
        );
        let own = node("replicas: 6\nenv: {B: z, C: w, A: }\nports: [2, 3]\nhealth:");
        let expected = serde_json::json!({
            "image": "a", "replicas": 6, "env": {"B": "z", "C": "w"}, "ports": [2, 3],
        });
        assert_eq!(json(&merged(&base, &own)), expected);
    }

    #[test]
    fn former_names_are_read_with_a_hint_and_never_beside_the_present_ones() {
        let text = "web: {environment: {A: x}, drain: 3s, limits: {cpu: 1}}";
        let (file, mut problems) = (SourceFile::new("f.yaml", text), Vec::new());
        let mut service = node(text).get("web").expect("a service").clone();
        rename(&mut Reader { file: &file, problems: &mut problems }, &mut service);
        let expected = serde_json::json!({
            "env": {"A": "x"}, "stop_grace_period": "3s", "resources": {"limits": {"cpu": 1}},
        });
        assert_eq!(json(&service), expected);
        assert!(problems.len() == 3 && problems.iter().all(|problem| !problem.is_error()), "{problems:?}");
        let mut service = node("env: {A: x}\nenvironment: {A: y}");
        rename(&mut Reader { file: &file, problems: &mut problems }, &mut service);
        assert!(problems.pop().is_some_and(|problem| problem.is_error()));
        assert_eq!(json(&service), serde_json::json!({"env": {"A": "x"}}));
    }
}
