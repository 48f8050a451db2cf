//! Stack policies: which resources an update may change, and how. The grammar and the rules are those of
//! CloudFormation's guide ("Prevent updates to stack resources").

use serde_json::{Map, Value, json};

use super::setting::Place;

/// The kinds of change that a policy speaks of.
pub const ACTIONS: [&str; 4] = ["Update:Modify", "Update:Replace", "Update:Delete", "Update:*"];

/// A stack's policy. Once a stack has one, everything is denied that no statement allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackPolicy {
    /// The statements, in their order.
    pub statements: Vec<Statement>,
}

/// A statement of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whether it allows; a statement that denies wins over every one that allows.
    pub allow: bool,
    /// The kinds of change it is about.
    pub actions: Chosen,
    /// The resources it is about, by logical id.
    pub resources: Chosen,
    /// The types of resources it is about; all when there is none.
    pub types: Option<Types>,
    /// Where it stands.
    pub place: Place,
}

/// Names with `*` and `?` in them, or everything but these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Whether all others are meant.
    pub others: bool,
    /// The names.
    pub patterns: Vec<String>,
}

impl Chosen {
    /// Whether `name` is meant.
    pub fn has(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, name)) != self.others
    }

    fn json(&self, prefix: &str) -> Value {
        let text = |pattern: &String| match pattern.as_str() {
            "*" => "*".to_owned(),
            other => format!("{prefix}{other}"),
        };
        match self.patterns.as_slice() {
            [one] => text(one).into(),
            many => many.iter().map(text).collect(),
        }
    }
}

/// A condition on a resource's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Types {
    /// Whether `*` and `?` stand for anything (`StringLike`).
    pub like: bool,
    /// The types.
    pub names: Vec<String>,
}

impl Types {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| if self.like { matches(known, name) } else { known == name })
    }
}

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// By a statement, counted from 1.
    Statement(usize),
    /// By none that allows it.
    NotAllowed,
}

impl StackPolicy {
    /// Why an update may not do `action` (such as `Update:Replace`) to a resource; `None` when it may.
    pub fn denial(&self, action: &str, resource: &str, resource_type: &str) -> Option<Denial> {
        let about = |statement: &Statement| {
            statement.actions.has(action)
                && statement.resources.has(resource)
                && statement.types.as_ref().is_none_or(|types| types.has(resource_type))
        };
        if let Some(at) = self.statements.iter().position(|statement| !statement.allow && about(statement)) {
            return Some(Denial::Statement(at + 1));
        }
        let allowed = self.statements.iter().any(|statement| statement.allow && about(statement));
        (!allowed).then_some(Denial::NotAllowed)
    }

    /// The document that CloudFormation gets.
    pub fn document(&self) -> Value {
        let statement = |statement: &Statement| {
            let mut map = Map::new();
            map.insert("Effect".to_owned(), if statement.allow { "Allow" } else { "Deny" }.into());
            map.insert("Principal".to_owned(), "*".into());
            let key =
                |of: &Chosen, name: &str| if of.others { format!("Not{name}") } else { name.to_owned() };
            map.insert(key(&statement.actions, "Action"), statement.actions.json(""));
            map.insert(key(&statement.resources, "Resource"), statement.resources.json("LogicalResourceId/"));
            if let Some(types) = &statement.types {
                let operator = if types.like { "StringLike" } else { "StringEquals" };
                map.insert("Condition".to_owned(), json!({operator: {"ResourceType": types.names}}));
            }
            Value::Object(map)
        };
        json!({"Statement": self.statements.iter().map(statement).collect::<Vec<_>>()})
    }
}

/// Whether two policy documents say the same: a list of one is that one.
pub fn same(one: &Value, other: &Value) -> bool {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Array(items) => match items.as_slice() {
                [one] => plain(one),
                many => many.iter().map(plain).collect(),
            },
            Value::Object(map) => {
                Value::Object(map.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
            }
            other => other.clone(),
        }
    }
    plain(one) == plain(other)
}

/// Whether `name` is what `pattern` stands for: `*` for any text, `?` for one character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where to go on when what follows the last `*` does not fit.
    let mut again: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                again = Some((at + 1, in_name));
                at += 1;
            }
            Some(&letter) if letter == '?' || letter == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match again {
                Some((star, taken)) => {
                    again = Some((star, taken + 1));
                    (at, in_name) = (star, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::{SourceFile, Span};

    fn statement(allow: bool, actions: &[&str], resources: &[&str]) -> Statement {
        let chosen = |names: &[&str]| Chosen {
            others: false,
            patterns: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let file = SourceFile::new("stacks/a.yaml".to_owned(), "");
        Statement {
            allow,
            actions: chosen(actions),
            resources: chosen(resources),
            types: None,
            place: Place::new(&file, Span { start: 0, end: 0 }),
        }
    }

    #[test]
    fn a_denial_wins_and_what_nothing_allows_is_denied() {
        let policy = StackPolicy {
            statements: vec![
                statement(true, &["Update:*"], &["*"]),
                statement(false, &["Update:Replace", "Update:Delete"], &["Data*"]),
            ],
        };
        assert_eq!(policy.denial("Update:Modify", "Database", "T"), None);
        assert_eq!(policy.denial("Update:Replace", "Database", "T"), Some(Denial::Statement(2)));
        assert_eq!(policy.denial("Update:Delete", "Queue", "T"), None);
        let narrow = StackPolicy { statements: vec![statement(true, &["Update:Modify"], &["Queue"])] };
        assert_eq!(narrow.denial("Update:Modify", "Queue", "T"), None);
        assert_eq!(narrow.denial("Update:Modify", "Topic", "T"), Some(Denial::NotAllowed));
    }

    #[test]
    fn others_and_types_narrow_a_statement() {
        let mut deny = statement(false, &["Update:*"], &["Queue"]);
        deny.resources.others = true;
        deny.types = Some(Types { like: true, names: vec!["AWS::RDS::*".to_owned()] });
        let policy = StackPolicy { statements: vec![statement(true, &["Update:*"], &["*"]), deny] };
        assert_eq!(policy.denial("Update:Modify", "Queue", "AWS::RDS::DBInstance"), None);
        assert_eq!(policy.denial("Update:Modify", "Db", "AWS::RDS::DBInstance"), Some(Denial::Statement(2)));
        assert_eq!(policy.denial("Update:Modify", "Db", "AWS::SQS::Queue"), None);
        assert_eq!(
            policy.document(),
            json!({"Statement": [
                {"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"},
                {"Effect": "Deny", "Principal": "*", "Action": "Update:*",
                 "NotResource": "LogicalResourceId/Queue",
                 "Condition": {"StringLike": {"ResourceType": ["AWS::RDS::*"]}}},
            ]})
        );
    }

    #[test]
    fn a_list_of_one_is_that_one() {
        let one = json!({"Statement": {"Action": "Update:*", "Effect": "Allow"}});
        let other = json!({"Statement": [{"Effect": "Allow", "Action": ["Update:*"]}]});
        assert!(same(&one, &other));
        assert!(!same(&one, &json!({"Statement": []})));
    }

    proptest! {
        #[test]
        fn a_name_is_matched_by_itself_and_with_any_piece_starred(name in "[a-c]{0,8}", at in 0usize..9, length in 0usize..9) {
            let at = at.min(name.len());
            let end = (at + length).min(name.len());
            let starred = format!("{}*{}", &name[..at], &name[end..]);
            prop_assert!(matches(&name, &name));
            prop_assert!(matches(&starred, &name));
            prop_assert!(matches(&"?".repeat(name.len()), &name));
            let longer = format!("{name}?");
            prop_assert!(!matches(&longer, &name));
        }
    }
}
