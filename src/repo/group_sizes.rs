//! Groups keep the size that somebody or something gave them: the policy that says so is put into the template.
//!
//! Without it CloudFormation sets a group back to the template's sizes with any change of it, however small.
//! With it, CloudFormation sets only the sizes that the template itself changes.

use super::edit::{Edit, edited};
use crate::source::{SourceFile, Span};
use crate::yaml::{self, Kind, Node};

/// The type of a group.
const GROUP: &str = "AWS::AutoScaling::AutoScalingGroup";
/// The policy and its one key.
const POLICY: &str = "AutoScalingScheduledAction";
const KEY: &str = "IgnoreUnmodifiedGroupSizeProperties";

/// The edits that put the policy into `text`, which was read as `root`, for every group that has nothing to say
/// about it; none where they would change anything else.
pub fn kept(text: &str, root: &Node) -> Vec<Edit> {
    let insertions = insertions(text, root).unwrap_or_default();
    if insertions.is_empty() {
        return Vec::new();
    }
    let obvious = insertions.iter().all(|insertion| insertion.obvious) && !repeats(root);
    let edits: Vec<Edit> = insertions.into_iter().map(|insertion| insertion.edit).collect();
    if obvious || is_kept(text, root, &edits) { edits } else { Vec::new() }
}

/// Whether `edits` change nothing but policies, which the edited text itself shows.
fn is_kept(text: &str, root: &Node, edits: &[Edit]) -> bool {
    let mut problems = Vec::new();
    let changed = yaml::parse(&SourceFile::new("template", edited(text, edits)), &mut problems);
    changed.is_some_and(|changed| problems.is_empty() && differ_in_policies(root, &changed))
}

/// Whether something stands in the template twice: an alias repeats what has its place elsewhere.
fn repeats(node: &Node) -> bool {
    let is_within = |inner: &Node| node.span.start <= inner.span.start && inner.span.end <= node.span.end;
    match &node.kind {
        Kind::Scalar { .. } => false,
        Kind::Sequence(items) => items.iter().any(|item| !is_within(item) || repeats(item)),
        Kind::Mapping(entries) => {
            entries.iter().any(|(key, value)| !is_within(key) || !is_within(value) || repeats(value))
        }
    }
}

/// The policy put into one mapping.
struct Insertion {
    edit: Edit,
    /// Whether the text around it shows that it becomes the mapping's first entry.
    obvious: bool,
}

fn insertions(text: &str, root: &Node) -> Option<Vec<Insertion>> {
    let mut insertions = Vec::new();
    for (name, resource) in root.get("Resources").and_then(Node::entries)? {
        if resource.get("Type").and_then(Node::text) != Some(GROUP) {
            continue;
        }
        let (name, into, keys): (&Node, &Node, &[&str]) = match resource.entry("UpdatePolicy") {
            None => (name, resource, &["UpdatePolicy", POLICY]),
            Some((name, policy)) if is_open(policy) => (name, policy, &[POLICY]),
            Some(_) => continue,
        };
        insertions.push(insertion(text, name, into, keys)?);
    }
    Some(insertions)
}

/// Whether two templates differ in nothing but the update policies of resources.
fn differ_in_policies(before: &Node, after: &Node) -> bool {
    entries_alike(before, after, "", &|name, before, after| match name {
        "Resources" => entries_alike(before, after, "", &|_, before, after| {
            entries_alike(before, after, "UpdatePolicy", &|_, before, after| alike(before, after))
        }),
        _ => alike(before, after),
    })
}

/// Whether two mappings have the same keys, except for `without`, and values that `compare` finds alike.
fn entries_alike(
    before: &Node,
    after: &Node,
    without: &str,
    compare: &dyn Fn(&str, &Node, &Node) -> bool,
) -> bool {
    let (Some(old), Some(new)) = (before.entries(), after.entries()) else { return alike(before, after) };
    let others = |entry: &&(Node, Node)| entry.0.text() != Some(without);
    let (mut old, mut new) = (old.iter().filter(others), new.iter().filter(others));
    before.tag == after.tag
        && old.by_ref().all(|(key, value)| {
            let name = key.text().unwrap_or_default();
            new.next().is_some_and(|(new_key, new)| alike(key, new_key) && compare(name, value, new))
        })
        && new.next().is_none()
}

/// Whether two nodes say the same, wherever they stand.
fn alike(before: &Node, after: &Node) -> bool {
    let kinds = match (&before.kind, &after.kind) {
        (Kind::Scalar { text: old, plain }, Kind::Scalar { text: new, plain: new_plain }) => {
            old == new && plain == new_plain
        }
        (Kind::Sequence(old), Kind::Sequence(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| alike(old, new))
        }
        (Kind::Mapping(old), Kind::Mapping(new)) => {
            let pair = |((key, old), (new_key, new)): (&(Node, Node), &(Node, Node))| {
                alike(key, new_key) && alike(old, new)
            };
            old.len() == new.len() && old.iter().zip(new).all(pair)
        }
        (Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_), _) => false,
    };
    kinds && before.tag == after.tag
}

/// Whether the policy says nothing of scheduled actions and is no expression.
fn is_open(policy: &Node) -> bool {
    let Kind::Mapping(entries) = &policy.kind else { return false };
    let named =
        |word: &str| entries.iter().any(|(key, _)| key.text().is_some_and(|key| key.starts_with(word)));
    policy.tag.is_none() && !entries.is_empty() && !named(POLICY) && !named("Fn::")
}

/// How the policy is written below `keys`, as the first entry of the mapping `into`, which is the value of `name`.
fn insertion(text: &str, name: &Node, into: &Node, keys: &[&str]) -> Option<Insertion> {
    let (first, _) = into.entries()?.first()?;
    let place = first.span.start;
    let insertion =
        |place, words, obvious| Insertion { edit: Edit { span: Span::new(place, place), words }, obvious };
    if let Some(inside) = text.get(into.span.start..)?.strip_prefix('{') {
        let inner = keys.iter().rev().fold(format!("{{\"{KEY}\": true}}"), |inner, key| {
            if key == &keys[0] { inner } else { format!("{{\"{key}\": {inner}}}") }
        });
        let before = inside.get(..place.saturating_sub(into.span.start + 1));
        let obvious = before.is_some_and(|before| before.trim_matches([' ', '\n', '\r']).is_empty());
        return Some(insertion(place, format!("\"{}\": {inner}, ", keys[0]), obvious));
    }
    let line = text[..place].rfind('\n').map_or(0, |at| at + 1);
    let indent = &text[line..place];
    if !indent.bytes().all(|byte| byte == b' ') {
        return None;
    }
    let mut words = String::new();
    for (depth, key) in keys.iter().enumerate() {
        words.push_str(&format!("{indent}{:1$}{key}:\n", "", depth * 2));
    }
    words.push_str(&format!("{indent}{:1$}{KEY}: true\n", "", keys.len() * 2));
    let obvious = text.get(name.span.end..line).is_some_and(only_ends_key);
    Some(insertion(line, words, obvious))
}

/// Whether `between`, which stands between a key and the lines of its value, holds a colon and nothing else but
/// comments: no tag, no anchor and no bracket.
fn only_ends_key(between: &str) -> bool {
    let is_blank = |line: &str| {
        let line = line.trim_matches([' ', '\t', '\r']);
        line.is_empty() || line.starts_with('#')
    };
    between.strip_prefix(':').is_some_and(|rest| rest.split('\n').all(is_blank))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::repo::document;

    /// The text with the policy.
    fn kept(text: &str) -> String {
        let root = yaml::parse(&SourceFile::new("template", text), &mut Vec::new()).expect("YAML");
        edited(text, &super::kept(text, &root))
    }

    fn policy(text: &str) -> serde_json::Value {
        let document = document::read(text).expect("a template");
        document.pointer("/Resources/Group/UpdatePolicy").cloned().unwrap_or_default()
    }

    #[test]
    fn a_group_keeps_its_size_in_every_way_of_writing_it() {
        let wanted = serde_json::json!({POLICY: {KEY: true}});
        let block = "Resources:\n  # the machines\n  Group:\n    Type: AWS::AutoScaling::AutoScalingGroup # here\n    \
                     Properties:\n      MaxSize: '4'\n  Topic:\n    Type: AWS::SNS::Topic\n";
        let changed = kept(block);
        assert_eq!(policy(&changed), wanted);
        assert!(changed.contains("# the machines") && changed.contains("# here"), "{changed}");
        let flow = r#"{"Resources": {"Group": {"Type": "AWS::AutoScaling::AutoScalingGroup", "Properties": {"MaxSize": 4}}}}"#;
        assert_eq!(policy(&kept(flow)), wanted);
        let lines = "{\n  \"Resources\": {\n    \"Group\": {\n      \"Type\": \"AWS::AutoScaling::AutoScalingGroup\"\n    }\n  }\n}\n";
        assert_eq!(policy(&kept(lines)), wanted);
        let rolling = "Resources:\n  Group:\n    Type: AWS::AutoScaling::AutoScalingGroup\n    UpdatePolicy:\n      \
                       AutoScalingRollingUpdate:\n        MinInstancesInService: 1\n";
        let both = policy(&kept(rolling));
        assert_eq!(both[POLICY], wanted[POLICY]);
        assert_eq!(both["AutoScalingRollingUpdate"]["MinInstancesInService"], 1);
        assert_eq!(kept(&changed), changed, "it is put in once");
    }

    /// Templates with a group, from pieces that fit together or not.
    fn templates() -> impl Strategy<Value = String> {
        let kind = "Type: AWS::AutoScaling::AutoScalingGroup";
        let head = prop::sample::select(vec![
            "",
            "Metadata: &m {A: b}\n",
            "Metadata: &m\n  A: b\n",
            "--- # start\n",
        ]);
        let name = prop::sample::select(vec![
            "  Group:",
            "  \"Group\" :",
            "  'Group':",
            "  ? Group\n  :",
            "  &k Group:",
        ]);
        let before = prop::sample::select(vec![
            "",
            " # here",
            "\n    # there",
            " &g",
            " !!map",
            "\n    &g",
            " !!map\n    # there",
            "\r",
            " \t",
            "\u{a0}",
        ]);
        let (block, flow) = (format!("\n    {kind}"), format!(" {{{kind}}}"));
        let lists = vec![
            block.clone(),
            format!("{block}\n    UpdatePolicy:\n      A: {{}}"),
            format!("{block}\n    UpdatePolicy: {{A: {{}}}}"),
            format!("{block}\n    UpdatePolicy: !!map # here\n      A: *m"),
            format!("\n    !!str {kind}"),
            format!("\n    ? Type\n    : AWS::AutoScaling::AutoScalingGroup"),
            format!("\n    <<: *m\n    {kind}"),
            format!("\n\t{kind}"),
            flow.clone(),
            format!(" {{\n      {kind}\n    }}"),
            format!(" {{ # here\n      {kind}}}"),
            format!(" {{? {kind}}}"),
            format!(" {{&k {kind}, DependsOn: *k}}"),
            format!(" {{{kind}, UpdatePolicy: {{A: *m}}}}"),
        ];
        let body = prop::sample::select(lists);
        let tail = prop::sample::select(vec![
            "\n",
            "",
            "\n  Other: *g\n",
            "\nOutputs: *g\n",
            "\n  Topic:\n    Type: AWS::SNS::Topic\n",
            "\r\nOutputs: {A: [*m]}",
        ]);
        (head, name, before, body, tail).prop_map(|(head, name, before, body, tail)| {
            format!("{head}Resources:\n{name}{before}{body}{tail}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::source::fuzz_cases(512)))]

        /// What the text around an insertion shows is what the edited text shows.
        #[test]
        fn an_obvious_insertion_changes_nothing_else(text in templates()) {
            let mut problems = Vec::new();
            let root = yaml::parse(&SourceFile::new("template", text.as_str()), &mut problems);
            if let Some(root) = root.filter(|_| problems.is_empty()) {
                let edits = super::kept(&text, &root);
                prop_assert!(edits.is_empty() || is_kept(&text, &root, &edits));
            }
        }
    }

    #[test]
    fn most_insertions_are_obvious() {
        let kind = "Type: AWS::AutoScaling::AutoScalingGroup";
        let cases = [
            (format!("Resources:\n  G: # here\n    # there\n    {kind}\n"), true),
            (format!("Resources: {{\"G\": {{\n  {kind}}}}}"), true),
            (format!("Resources:\n  G: &g\n    {kind}\n"), false),
            (format!("Resources:\n  G: !!map {{\n    {kind}}}\n"), true),
            (format!("Resources: {{G: {{&g {kind}}}}}"), false),
            (format!("Resources: {{G: {{? {kind}}}}}"), false),
        ];
        for (text, expected) in cases {
            let root =
                yaml::parse(&SourceFile::new("template", text.as_str()), &mut Vec::new()).expect("YAML");
            let insertions = insertions(&text, &root).expect("there is a place");
            assert_eq!(insertions.iter().map(|one| one.obvious).collect::<Vec<_>>(), [expected], "{text}");
        }
    }

    #[test]
    fn an_alias_of_a_group_has_the_policy_of_its_anchor() {
        let text =
            "Resources:\n  Group: &group\n    Type: AWS::AutoScaling::AutoScalingGroup\n  Other: *group\n";
        let changed = kept(text);
        let policies = ["Group", "Other"].map(|name| {
            document::read(&changed).expect("a template")["Resources"][name]["UpdatePolicy"].clone()
        });
        assert_eq!(policies, [serde_json::json!({POLICY: {KEY: true}}), policies[0].clone()]);
        assert_eq!(changed.matches(KEY).count(), 1);
    }

    #[test]
    fn what_the_template_says_itself_stays() {
        for text in [
            "Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n",
            "Resources:\n  Group:\n    Type: AWS::AutoScaling::AutoScalingGroup\n    UpdatePolicy:\n      \
             AutoScalingScheduledAction:\n        IgnoreUnmodifiedGroupSizeProperties: false\n",
            "Resources:\n  Group:\n    Type: AWS::AutoScaling::AutoScalingGroup\n    UpdatePolicy: !If\n      - A\n      \
             - AutoScalingReplacingUpdate: {WillReplace: true}\n      - !Ref AWS::NoValue\n",
            "Metadata: &group\n  Type: AWS::AutoScaling::AutoScalingGroup\nResources:\n  Group: *group\n",
            "no template: AWS::AutoScaling::AutoScalingGroup",
        ] {
            assert_eq!(kept(text), text);
        }
    }
}
