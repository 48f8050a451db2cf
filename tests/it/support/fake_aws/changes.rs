//! Change sets: what a stack would go through to become what is wanted.

use std::collections::BTreeMap;

use fleetwright::model::changes::differences;
use fleetwright::model::deployed::PropertyChange;
use fleetwright::schema::{self, TypeSchema};
use serde_json::{Value, json};

use super::stack::Stack;
use super::template::{Asked, Wanted};
use super::wire::{Refusal, maybe, members, tag, text};

/// What stands for a value that is known only after the change.
pub const KNOWN_AFTER_APPLY: &str = "{{changeSet:KNOWN_AFTER_APPLY}}";

/// How a server tells what a change set changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Each property with its values before and after.
    Details,
    /// Names of properties, and whole contexts before and after.
    Contexts,
}

/// Whether a change makes a new resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recreation {
    Never,
    Conditionally,
    Always,
}

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Add,
    Modify,
    Remove,
}

/// One resource's change.
#[derive(Debug, Clone)]
pub struct Change {
    /// The logical id.
    pub name: String,
    /// The type.
    pub kind: String,
    /// What is done.
    pub act: Act,
    /// Whether that makes a new resource.
    pub recreation: Recreation,
    /// The physical id; empty for one that is added.
    id: String,
    /// The properties that change, and whether each makes a new resource.
    properties: Vec<(PropertyChange, Recreation)>,
    /// Whether the stack's tags reach it.
    tagged: bool,
    before: Value,
    after: Value,
}

/// A change set.
#[derive(Debug)]
pub struct ChangeSet {
    pub id: String,
    pub name: String,
    /// The id of its stack.
    pub stack: String,
    pub create: bool,
    pub wanted: Wanted,
    pub changes: Vec<Change>,
    /// Whether it changes nothing at all.
    pub empty: bool,
    /// Whether it is computed: asking for it the first time brings that about.
    pub asked: bool,
    /// The token it was made with.
    pub token: Option<String>,
    /// The token it was executed with.
    pub executed: Option<String>,
}

impl ChangeSet {
    /// Its status, the reason for it, and whether it can be executed.
    pub fn status(&self) -> (&'static str, &'static str, &'static str) {
        const EMPTY: &str = "The submitted information didn't contain changes. Submit different information to create a change set.";
        match (self.asked, self.empty, &self.executed) {
            (false, _, _) => ("CREATE_IN_PROGRESS", "", "UNAVAILABLE"),
            (true, true, _) => ("FAILED", EMPTY, "UNAVAILABLE"),
            (true, false, None) => ("CREATE_COMPLETE", "", "AVAILABLE"),
            (true, false, Some(_)) => ("CREATE_COMPLETE", "", "EXECUTE_COMPLETE"),
        }
    }
}

/// What `stack` goes through to become `wanted`, each change after those it depends on.
pub fn changes(stack: &Stack, wanted: &Wanted) -> Result<Vec<Change>, Refusal> {
    let mut changes: Vec<Change> = Vec::new();
    let retagged = stack.is.tags != wanted.tags;
    for name in wanted.levels().into_iter().flatten() {
        let kind = wanted.kind(&name).to_owned();
        let after = wanted.properties(&name, &|asked| known(stack, &changes, asked))?;
        let Some(deployed) = stack.resource(&name) else {
            let change = Change { act: Act::Add, after, ..bare(&name, &kind) };
            changes.push(change);
            continue;
        };
        let schema = schema::all().find(&kind);
        let properties: Vec<_> = differences(&deployed.properties, &after)
            .into_iter()
            .map(|change| (recreation(schema, &change.path), change))
            .map(|(recreation, change)| (change, recreation))
            .collect();
        let tagged =
            retagged && schema.is_some_and(|schema| schema.properties.properties.get("Tags").is_some());
        let other_type = deployed.kind != kind;
        if properties.is_empty() && !tagged && !other_type {
            continue;
        }
        let worst = properties.iter().map(|(_, recreation)| *recreation).max().unwrap_or(Recreation::Never);
        changes.push(Change {
            recreation: if other_type { Recreation::Always } else { worst },
            id: deployed.id.clone(),
            properties,
            tagged,
            before: deployed.properties.clone(),
            after,
            ..bare(&name, &kind)
        });
    }
    let gone = stack.resources.iter().filter(|resource| wanted.kind(&resource.name).is_empty());
    changes.extend(gone.map(|resource| Change {
        act: Act::Remove,
        id: resource.id.clone(),
        before: resource.properties.clone(),
        ..bare(&resource.name, &resource.kind)
    }));
    Ok(changes)
}

fn bare(name: &str, kind: &str) -> Change {
    Change {
        name: name.to_owned(),
        kind: kind.to_owned(),
        act: Act::Modify,
        recreation: Recreation::Never,
        id: String::new(),
        properties: Vec::new(),
        tagged: false,
        before: Value::Null,
        after: Value::Null,
    }
}

/// What a resource's id or attribute will be, as far as it is known before the change.
fn known(stack: &Stack, changes: &[Change], asked: Asked<'_>) -> Option<String> {
    let (name, is_id) = match asked {
        Asked::Id(name) => (name, true),
        Asked::Attribute(name, _) => (name, false),
    };
    let stays = match changes.iter().find(|change| change.name == name) {
        None => true,
        Some(change) => is_id && change.act == Act::Modify && change.recreation == Recreation::Never,
    };
    if stays { stack.known(asked) } else { Some(KNOWN_AFTER_APPLY.to_owned()) }
}

fn recreation(schema: Option<&TypeSchema>, path: &str) -> Recreation {
    let Some(schema) = schema else { return Recreation::Conditionally };
    let top = path.split('.').next().unwrap_or_default();
    let among = |paths: &[String]| paths.iter().any(|known| known.split('/').next() == Some(top));
    if among(&schema.create_only_properties) {
        Recreation::Always
    } else if among(&schema.conditional_create_only_properties) {
        Recreation::Conditionally
    } else {
        Recreation::Never
    }
}

/// A change as a change set's description tells it; without `values` when they were not asked for.
pub fn describe(change: &Change, dialect: Dialect, values: bool) -> String {
    let act = match change.act {
        Act::Add => "Add",
        Act::Modify => "Modify",
        Act::Remove => "Remove",
    };
    let mut inner = text("Action", act)
        + &text("LogicalResourceId", &change.name)
        + &text("ResourceType", &change.kind)
        + &maybe("PhysicalResourceId", Some(&change.id));
    if change.act == Act::Modify {
        inner += &text(
            "Replacement",
            match change.recreation {
                Recreation::Never => "False",
                Recreation::Conditionally => "Conditional",
                Recreation::Always => "True",
            },
        );
        let scope = [("Properties", !change.properties.is_empty()), ("Tags", change.tagged)];
        inner += &members("Scope", scope.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()));
    }
    inner += &members("Details", details(change, dialect, values));
    if values && dialect == Dialect::Contexts {
        let context = |value: &Value| (!value.is_null()).then(|| json!({ "Properties": value }).to_string());
        inner += &maybe("BeforeContext", context(&change.before).as_deref());
        inner += &maybe("AfterContext", context(&change.after).as_deref());
    }
    text("Type", "Resource") + &tag("ResourceChange", &inner)
}

fn details(change: &Change, dialect: Dialect, values: bool) -> Vec<String> {
    let mut told: BTreeMap<&str, ()> = BTreeMap::new();
    let mut details = Vec::new();
    for (property, recreation) in &change.properties {
        let name = property.path.split('.').next().unwrap_or_default();
        let full = dialect == Dialect::Details;
        // With contexts, each property is named once.
        if told.insert(name, ()).is_some() && !full {
            continue;
        }
        let mut target = text("Attribute", "Properties") + &text("Name", name);
        target += &text(
            "RequiresRecreation",
            match recreation {
                Recreation::Never => "Never",
                Recreation::Conditionally => "Conditionally",
                Recreation::Always => "Always",
            },
        );
        if full && values {
            target += &text("Path", &format!("/Properties/{}", property.path.replace('.', "/")));
            let (before, after) = (property.before.as_deref(), property.after.as_deref());
            target += &before.map_or_else(String::new, |value| text("BeforeValue", value));
            target += &after.map_or_else(String::new, |value| text("AfterValue", value));
            let kind = match (before, after) {
                (None, _) => "Add",
                (_, None) => "Remove",
                _ => "Modify",
            };
            target += &text("AttributeChangeType", kind);
        }
        let is_dynamic = property.after.as_deref().is_some_and(|after| after.contains(KNOWN_AFTER_APPLY));
        details.push(
            tag("Target", &target)
                + &text("Evaluation", if is_dynamic { "Dynamic" } else { "Static" })
                + &text("ChangeSource", if is_dynamic { "ResourceReference" } else { "DirectModification" }),
        );
    }
    if change.tagged {
        let target = text("Attribute", "Tags") + &text("RequiresRecreation", "Never");
        details.push(
            tag("Target", &target)
                + &text("Evaluation", "Static")
                + &text("ChangeSource", "DirectModification"),
        );
    }
    details
}
