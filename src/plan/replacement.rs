//! Whether a change of a property replaces its resource, by the schemas of the resource types.

use serde_json::{Value, json};

use super::document;
use crate::model::deployed::{Action, PropertyChange, ResourceChange};
use crate::schema;

/// What a change of a property does to its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It is changed in place.
    InPlace,
    /// That depends on values, or the type is not known.
    Perhaps,
    /// A new one takes its place.
    Replaces,
}

/// What a change of `path` below the properties of `resource` does.
pub fn effect(resource: &Value, path: &str) -> Effect {
    let kind = document::resource_type(resource);
    let Some(known) = schema::all().find(kind) else { return Effect::Perhaps };
    let among = |paths: &[String]| paths.iter().any(|property| touches(property, path));
    if among(&known.create_only_properties) {
        Effect::Replaces
    } else if among(&known.conditional_create_only_properties) && condition_may_hold(kind, resource) {
        Effect::Perhaps
    } else {
        Effect::InPlace
    }
}

/// What a change set's change does to its resource, also where the change set does not say whether it is replaced:
/// then the properties tell, those of the change set or, where it names none, those that the plan `predicted`.
pub fn action(change: &ResourceChange, predicted: &[PropertyChange]) -> Action {
    if change.certain {
        return change.action;
    }
    let resource = json!({"Type": change.resource_type});
    let named = if change.properties.is_empty() { predicted } else { &change.properties };
    let worst = named.iter().map(|property| effect(&resource, &property.path)).max();
    match worst.unwrap_or(Effect::Perhaps) {
        Effect::InPlace => Action::Update,
        Effect::Perhaps => Action::MaybeReplace,
        Effect::Replaces => Action::Replace,
    }
}

/// A group is replaced for what it launches only where its policy says so.
fn condition_may_hold(kind: &str, resource: &Value) -> bool {
    if kind != "AWS::AutoScaling::AutoScalingGroup" {
        return true;
    }
    let replacing = resource.pointer("/UpdatePolicy/AutoScalingReplacingUpdate/WillReplace");
    replacing.is_some_and(|will| will != &Value::Bool(false) && will != "false")
}

/// Whether a change of `path` (`A.0.B`) is one of the property `known` (`A/*/B`), or of
/// something that holds it.
fn touches(known: &str, path: &str) -> bool {
    let is_index = |step: &str| !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit());
    known
        .split('/')
        .zip(path.split('.'))
        .all(|(known, step)| known == step || (known == "*" && is_index(step)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_meet_where_one_holds_the_other() {
        assert!(touches("CidrBlock", "CidrBlock") && touches("Placement/Tenancy", "Placement"));
        assert!(touches("Ebs", "Ebs.Size") && touches("List/*/Name", "List.3.Name"));
        assert!(!touches("List/*/Name", "List.3.Value") && !touches("CidrBlock", "CidrBlocks"));
    }

    #[test]
    fn the_schemas_say_what_is_replaced() {
        let of = |kind: &str, path: &str| effect(&json!({"Type": kind}), path);
        assert_eq!(of("AWS::EC2::VPC", "CidrBlock"), Effect::Replaces);
        assert_eq!(of("AWS::EC2::VPC", "EnableDnsSupport"), Effect::InPlace);
        assert_eq!(of("AWS::S3::Bucket", "BucketName"), Effect::Replaces);
        assert_eq!(of("AWS::S3::Bucket", "Tags.0.Value"), Effect::InPlace);
        assert_eq!(of("AWS::EC2::LaunchTemplate", "LaunchTemplateData.UserData"), Effect::InPlace);
        assert_eq!(of("Custom::Thing", "Anything"), Effect::Perhaps);
    }

    #[test]
    fn the_properties_tell_where_a_change_set_does_not() {
        let change = |kind: &str, paths: &[&str]| ResourceChange {
            resource: "A".to_owned(),
            resource_type: kind.to_owned(),
            action: Action::MaybeReplace,
            certain: false,
            properties: paths.iter().map(|path| property(path)).collect(),
        };
        fn property(path: &str) -> PropertyChange {
            PropertyChange { path: path.to_owned(), before: None, after: None }
        }
        assert_eq!(action(&change("AWS::S3::Bucket", &["Tags"]), &[]), Action::Update);
        assert_eq!(action(&change("AWS::S3::Bucket", &["Tags", "BucketName"]), &[]), Action::Replace);
        assert_eq!(action(&change("AWS::S3::Bucket", &[]), &[]), Action::MaybeReplace);
        assert_eq!(action(&change("AWS::S3::Bucket", &[]), &[property("Tags.0.Value")]), Action::Update);
        assert_eq!(action(&change("Custom::Thing", &["A"]), &[]), Action::MaybeReplace);
    }

    #[test]
    fn a_group_is_replaced_for_its_launch_template_only_by_its_policy() {
        let mut group = json!({"Type": "AWS::AutoScaling::AutoScalingGroup"});
        assert_eq!(effect(&group, "LaunchTemplate.Version"), Effect::InPlace);
        group["UpdatePolicy"] = json!({"AutoScalingReplacingUpdate": {"WillReplace": true}});
        assert_eq!(effect(&group, "LaunchTemplate.Version"), Effect::Perhaps);
        assert_eq!(effect(&group, "AutoScalingGroupName"), Effect::Replaces);
    }
}
