//! Whether a machine may take a role on: by the policies of its own role, and by the trust policy of the other, as the
//! emulator keeps them. It allows no more than IAM does: a condition that is not known here is not met.

use serde_json::Value;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The ARN of the role that asks.
    pub caller: &'a str,
    /// The ARN of the role that it asks for.
    pub role: &'a str,
    /// The name of the session.
    pub session: &'a str,
}

/// Whether the policies of the role that asks, and the trust policy of the other, allow it.
pub fn allows(ask: &Ask<'_>, own: &[Value], trust: &Value) -> bool {
    let resource = |statement: &Value| any(&statement["Resource"], |pattern| matches(pattern, ask.role));
    let own: Vec<&Value> = own.iter().flat_map(statements).filter(|one| resource(one)).collect();
    let trusting: Vec<&Value> = statements(trust).into_iter().filter(|one| principal(ask, one)).collect();
    granted(ask, &own) && granted(ask, &trusting)
}

/// Whether one of the statements allows it, and none denies it.
fn granted(ask: &Ask<'_>, statements: &[&Value]) -> bool {
    let action =
        |one: &&&Value| any(&one["Action"], |pattern| matches(&pattern.to_lowercase(), "sts:assumerole"));
    let effect = |one: &&Value, effect: &str| one["Effect"] == effect;
    let about: Vec<&&Value> = statements.iter().filter(action).collect();
    about.iter().any(|one| effect(one, "Allow") && meets(ask, &one["Condition"]))
        && !about.iter().any(|one| effect(one, "Deny"))
}

fn statements(policy: &Value) -> Vec<&Value> {
    match &policy["Statement"] {
        Value::Array(list) => list.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

fn any(texts: &Value, is_it: impl Fn(&str) -> bool) -> bool {
    match texts {
        Value::String(text) => is_it(text),
        Value::Array(list) => list.iter().filter_map(Value::as_str).any(is_it),
        _ => false,
    }
}

/// Whether a statement of a trust policy is about the role that asks.
fn principal(ask: &Ask<'_>, statement: &Value) -> bool {
    let account = ask.caller.split(':').nth(4).unwrap_or_default();
    let root = format!(":iam::{account}:root");
    let is_it = |text: &str| text == "*" || text == ask.caller || text == account || text.ends_with(&root);
    match &statement["Principal"] {
        Value::Object(kinds) => kinds.get("AWS").is_some_and(|texts| any(texts, is_it)),
        all => all == "*",
    }
}

fn meets(ask: &Ask<'_>, conditions: &Value) -> bool {
    let Value::Object(operators) = conditions else { return conditions.is_null() };
    operators.iter().all(|(operator, keys)| {
        let Value::Object(keys) = keys else { return false };
        keys.iter().all(|(key, wanted)| {
            let actual = match key.to_lowercase().as_str() {
                "aws:principalarn" => ask.caller,
                "sts:rolesessionname" => ask.session,
                _ => return false,
            };
            match operator.as_str() {
                "StringEquals" => any(wanted, |text| text == actual),
                "ArnEquals" | "ArnLike" | "StringLike" => any(wanted, |pattern| matches(pattern, actual)),
                _ => false,
            }
        })
    })
}

/// Whether `text` is what `pattern` describes, with `*` for anything and `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(one) if *one == '?' || *one == text[seen] => (at, seen) = (at + 1, seen + 1),
            _ => match star {
                Some((back, from)) => {
                    star = Some((back, from + 1));
                    (at, seen) = (back + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|one| *one == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CALLER: &str = "arn:aws:iam::000000000000:role/control";
    const ROLE: &str = "arn:aws:iam::000000000000:role/fleetwright/shop/prod/web";

    #[test]
    fn both_policies_must_allow_it() {
        let ask = Ask { caller: CALLER, role: ROLE, session: "shop.prod.web.1@i-1" };
        let own = |resource: &str| {
            vec![
                json!({"Statement": {"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": resource}}),
            ]
        };
        let mine = own("arn:aws:iam::000000000000:role/fleetwright/shop/prod/*");
        let trust = |principal: Value, condition: Value| {
            json!({"Statement": [{
                "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, "Condition": condition,
            }]})
        };
        let root = json!({"AWS": "arn:aws:iam::000000000000:root"});
        let by_arn = json!({"ArnEquals": {"aws:PrincipalArn": CALLER}});
        for trusted in [
            trust(json!({"AWS": [CALLER]}), Value::Null),
            trust(root.clone(), Value::Null),
            trust(root.clone(), by_arn.clone()),
            trust(root.clone(), json!({"StringLike": {"sts:RoleSessionName": "shop.prod.web.*"}})),
        ] {
            assert!(allows(&ask, &mine, &trusted), "{trusted}");
            assert!(!allows(&ask, &own("arn:aws:iam::000000000000:role/fleetwright/shop/dev/*"), &trusted));
            assert!(!allows(&ask, &[], &trusted));
            assert!(!allows(&Ask { caller: "arn:aws:iam::1:role/control", ..ask }, &mine, &trusted));
        }
        for refused in [
            trust(json!({"Service": "ec2.amazonaws.com"}), Value::Null),
            trust(json!({"AWS": "arn:aws:iam::000000000000:role/other"}), Value::Null),
            trust(
                root.clone(),
                json!({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::000000000000:role/worker"}}),
            ),
            trust(root.clone(), json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}})),
            trust(root, json!({"StringLike": {"sts:RoleSessionName": "shop.dev.*"}})),
            json!({}),
        ] {
            assert!(!allows(&ask, &mine, &refused), "{refused}");
        }
        let denied = json!({"Statement": {"Effect": "Deny", "Action": "sts:*", "Resource": "*"}});
        let both = [mine, vec![denied]].concat();
        assert!(!allows(&ask, &both, &trust(json!({"AWS": CALLER}), Value::Null)));
    }
}
