//! A tree in the one spelling that every engine of its dialect reads alike.
//!
//! Keys get their underscores, modes become octal texts, what must be a text is one however it was
//! written, booleans are `true` and `false`, and names that are deprecated give way to those that
//! mean the same. What a document does is the same before and after.

use super::effects::mode;
use super::scalar::{Scalar, scalar};
use super::shape::{Field, Shape};
use super::target::Dialect;
use super::{cloud_init, coreos};
use crate::yaml::{Kind, Node};

/// Deprecated keys of cloud-init, and what means the same.
const RENAMED: [(&str, &str); 7] = [
    ("apt_reboot_if_required", "package_reboot_if_required"),
    ("apt_update", "package_update"),
    ("apt_upgrade", "package_upgrade"),
    ("ca-certs", "ca_certs"),
    ("lock-passwd", "lock_passwd"),
    ("remove-defaults", "remove_defaults"),
    ("ssh-authorized-keys", "ssh_authorized_keys"),
];

/// The tree of a document, normalised.
pub fn normal(root: &Node, dialect: Dialect) -> Node {
    let fields = match dialect {
        Dialect::CoreOs => coreos::ROOT,
        Dialect::CloudInit => cloud_init::TYPED,
    };
    mapping(root, fields, dialect)
}

fn mapping(node: &Node, fields: &'static [Field], dialect: Dialect) -> Node {
    let Some(entries) = node.entries() else { return any(node) };
    let mut out: Vec<(Node, Node)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let written = key.text().unwrap_or_default();
        let name = name(written, fields, dialect);
        let taken = name != written && entries.iter().any(|(other, _)| other.text() == Some(name.as_str()));
        let name = if taken { written.to_owned() } else { name };
        let value = match (name.as_str(), fields.iter().find(|field| field.name == name)) {
            ("permissions", Some(_)) => permissions(value, dialect),
            ("manage_etc_hosts", Some(_)) if value.text() == Some("template") => {
                Node { kind: Kind::Scalar { text: "true".into(), plain: true }, tag: None, span: value.span }
            }
            (name, Some(field)) => renewed(name, self::value(value, &field.shape, dialect)),
            (_, None) => any(value),
        };
        let kind = match &key.kind {
            Kind::Scalar { plain, .. } => Kind::Scalar { text: name, plain: *plain },
            other => other.clone(),
        };
        out.push((Node { kind, ..key.clone() }, value));
    }
    Node { kind: Kind::Mapping(out), ..node.clone() }
}

/// A value that is deprecated as the one that means the same. No key of the CoreOS dialect is among
/// these.
fn renewed(name: &str, node: Node) -> Node {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let new = |text: &str, plain| Kind::Scalar { text: text.to_owned(), plain };
    let kind = match (name, scalar(&node), node.entries()) {
        ("delay", Some(Scalar::Text(text)), _) if digits(text.trim_start_matches('+')) => {
            // A zero before it would make it octal.
            let number = text.trim_start_matches(['+', '0']);
            new(if number.is_empty() { "0" } else { number }, true)
        }
        ("uid", Some(Scalar::Text(text)), _) if digits(text) && !text.starts_with('0') => new(text, true),
        ("sudo", Some(Scalar::Bool(false)), _) => new("", true),
        ("mode", Some(Scalar::Bool(false)), _) => new("off", false),
        ("groups", _, Some(names)) if names.iter().all(|(_, value)| scalar(value) == Some(Scalar::Null)) => {
            Kind::Sequence(names.iter().map(|(name, _)| name.clone()).collect())
        }
        _ => return node,
    };
    Node { kind, tag: None, ..node }
}

/// How a key is written best.
fn name(written: &str, fields: &[Field], dialect: Dialect) -> String {
    let known = |name: &str| fields.iter().any(|field| field.name == name);
    match dialect {
        Dialect::CoreOs if known(&written.replace('-', "_")) => written.replace('-', "_"),
        Dialect::CloudInit => RENAMED
            .iter()
            .find(|(old, new)| *old == written && known(new))
            .map_or_else(|| written.to_owned(), |(_, new)| (*new).to_owned()),
        Dialect::CoreOs => written.to_owned(),
    }
}

/// A mode as four octal digits.
fn permissions(node: &Node, dialect: Dialect) -> Node {
    match mode(node, dialect) {
        Some(mode) => Node {
            kind: Kind::Scalar { text: format!("{mode:04o}"), plain: false },
            tag: None,
            ..node.clone()
        },
        None => node.clone(),
    }
}

fn value(node: &Node, shape: &Shape, dialect: Dialect) -> Node {
    let items = |inner: &Shape| match node.items() {
        Some(items) => {
            let items = items.iter().map(|item| value(item, inner, dialect)).collect();
            Node { kind: Kind::Sequence(items), ..node.clone() }
        }
        None => any(node),
    };
    match shape {
        // coreos-cloudinit takes what was written where it wants a text.
        Shape::Text | Shape::Word(_) | Shape::Like(..) if dialect == Dialect::CoreOs => match scalar(node) {
            None | Some(Scalar::Null | Scalar::Text(_)) => any(node),
            Some(_) => quoted(node),
        },
        Shape::List(inner) | Shape::NonEmpty(inner) | Shape::Exactly(_, inner) => items(inner),
        Shape::Map(fields) | Shape::Some(fields) => mapping(node, fields, dialect),
        Shape::Each(inner) => match node.entries() {
            Some(entries) => {
                let entries =
                    entries.iter().map(|(key, item)| (key.clone(), value(item, inner, dialect))).collect();
                Node { kind: Kind::Mapping(entries), ..node.clone() }
            }
            None => any(node),
        },
        Shape::Either(shapes) => {
            let word = |shape: &&Shape| match shape {
                Shape::Word(words) => node.text().is_some_and(|text| words.contains(&text)),
                _ => false,
            };
            if shapes.iter().any(|shape| word(&shape)) {
                return quoted(node);
            }
            match shapes.iter().find(|shape| shape.takes(node, dialect)) {
                Some(shape) => value(node, shape, dialect),
                None => any(node),
            }
        }
        Shape::Any
        | Shape::Null
        | Shape::Bool
        | Shape::Integer
        | Shape::Number
        | Shape::Text
        | Shape::Word(_)
        | Shape::Like(..) => any(node),
    }
}

/// The scalar as a text.
fn quoted(node: &Node) -> Node {
    let text = node.text().unwrap_or_default().to_owned();
    Node { kind: Kind::Scalar { text, plain: false }, tag: None, ..node.clone() }
}

/// What no table says anything about.
fn any(node: &Node) -> Node {
    match &node.kind {
        Kind::Scalar { .. } => match (scalar(node), node.tag.as_deref()) {
            (Some(Scalar::Bool(value)), _) => Node {
                kind: Kind::Scalar { text: value.to_string(), plain: true },
                tag: None,
                ..node.clone()
            },
            (_, Some("!!str")) => quoted(node),
            _ => node.clone(),
        },
        Kind::Sequence(items) => {
            Node { kind: Kind::Sequence(items.iter().map(any).collect()), ..node.clone() }
        }
        Kind::Mapping(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.clone(), any(value))).collect();
            Node { kind: Kind::Mapping(entries), ..node.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cloud_config::document::Document;
    use crate::cloud_config::emit::yaml;
    use crate::source::SourceFile;

    fn normal(text: &str) -> String {
        let document = Document::read(&SourceFile::new("a.yaml", text));
        let root = document.root.as_ref().expect("a tree");
        yaml(&super::normal(root, document.dialect())).text
    }

    #[test]
    fn coreos_gets_underscores_and_texts() {
        insta::assert_snapshot!(normal(
            "#cloud-config
hostname: 12
write-files: [{path: /a, permissions: 644, content: !!str 5}]
coreos:
  update: {reboot-strategy: off}
  etcd: {snapshot: yes, peers: 1.10}
  units: [{name: a.service, enable: on, drop-ins: [{name: b.conf, content: ''}]}]
"
        ));
    }

    #[test]
    fn cloud_init_gets_the_names_of_today() {
        insta::assert_snapshot!(normal(
            "#cloud-config
apt_update: yes
ca-certs: {remove-defaults: off, trusted: [a]}
growpart: {mode: false}
users: [{name: a, lock-passwd: no, ssh-authorized-keys: [k], lock_passwd: yes, uid: '12', groups: {x: null}, sudo: false}]
power_state: {mode: reboot, delay: '+05'}
write_files: [{path: /a, permissions: 0644, content: !!binary aGVsbG8=}]
ntp: {enabled: on}
manage_etc_hosts: template
locale: 'off'
"
        ));
    }
}
