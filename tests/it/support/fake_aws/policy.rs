//! Stack policies: what an update may do to which resource.

use serde_json::Value;

/// What an update does to a resource, as policies name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It is changed in place.
    Modify,
    /// A new one takes its place.
    Replace,
    /// It is taken out of the stack.
    Delete,
}

impl Deed {
    fn action(self) -> &'static str {
        match self {
            Self::Modify => "Update:Modify",
            Self::Replace => "Update:Replace",
            Self::Delete => "Update:Delete",
        }
    }
}

/// CloudFormation's words when `policy` keeps an update from doing `deed` to a resource. A stack
/// without a policy lets everything be done; with one, what no statement allows is denied.
pub fn denial(policy: Option<&Value>, deed: Deed, resource: &str, kind: &str) -> Option<String> {
    let statements = match policy?.get("Statement")? {
        Value::Array(statements) => statements.clone(),
        one => vec![one.clone()],
    };
    let action = deed.action();
    let speaks = |statement: &&(usize, Value)| applies(&statement.1, action, resource, kind);
    let numbered: Vec<(usize, Value)> = (1..).zip(statements).collect();
    let of = |effect: &str| numbered.iter().filter(|(_, s)| s["Effect"] == effect).find(speaks);
    if let Some((number, _)) = of("Deny") {
        return Some(format!(
            "Action denied by stack policy: Statement [#{number}] does not allow [{action}] for resource [{resource}]"
        ));
    }
    let allowed = of("Allow").is_some();
    (!allowed).then(|| {
        format!(
            "Action not allowed by stack policy: no statement allows [{action}] for resource [{resource}]"
        )
    })
}

fn applies(statement: &Value, action: &str, resource: &str, kind: &str) -> bool {
    let id = format!("LogicalResourceId/{resource}");
    let holds = |name: &str, value: &str| {
        let not = format!("Not{name}");
        match (statement.get(name), statement.get(&not)) {
            (Some(patterns), _) => any(patterns, value),
            (None, Some(patterns)) => !any(patterns, value),
            (None, None) => false,
        }
    };
    let conditions = statement.get("Condition").and_then(Value::as_object).into_iter().flatten();
    let mut of_kind = conditions.filter_map(|(_, condition)| condition.get("ResourceType"));
    holds("Action", action) && holds("Resource", &id) && of_kind.all(|kinds| any(kinds, kind))
}

/// Whether one of `patterns` (a text or a list) fits all of `value`; `*` stands for anything.
fn any(patterns: &Value, value: &str) -> bool {
    match patterns {
        Value::Array(patterns) => patterns.iter().any(|pattern| any(pattern, value)),
        Value::String(pattern) => fits(pattern, value),
        _ => false,
    }
}

fn fits(pattern: &str, value: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == value,
        Some((start, rest)) => value.strip_prefix(start).is_some_and(|value| {
            (0..=value.len()).filter(|at| value.is_char_boundary(*at)).any(|at| fits(rest, &value[at..]))
        }),
    }
}
