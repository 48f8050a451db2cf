//! Trees made from values.

use crate::source::Span;
use crate::yaml::{Kind, Node};

fn node(kind: Kind) -> Node {
    Node { span: Span::default(), tag: None, kind }
}

/// A text.
pub fn text(text: impl Into<String>) -> Node {
    node(Kind::Scalar { text: text.into(), plain: false })
}

/// A boolean.
pub fn flag(value: bool) -> Node {
    node(Kind::Scalar { text: value.to_string(), plain: true })
}

/// A list.
pub fn list(items: impl IntoIterator<Item = Node>) -> Node {
    node(Kind::Sequence(items.into_iter().collect()))
}

/// A list of texts.
pub fn texts(items: impl IntoIterator<Item = impl Into<String>>) -> Node {
    list(items.into_iter().map(text))
}

/// A mapping that is being made; what is empty is left out.
#[derive(Debug, Default)]
pub struct Map(Vec<(Node, Node)>);

impl Map {
    /// Adds an entry.
    pub fn put(&mut self, key: &str, value: Node) {
        self.0.push((text(key), value));
    }

    /// Adds a list, unless it is empty.
    pub fn put_list(&mut self, key: &str, items: Vec<Node>) {
        if !items.is_empty() {
            self.put(key, list(items));
        }
    }

    /// Adds `true`, unless it is false.
    pub fn put_flag(&mut self, key: &str, value: bool) {
        if value {
            self.put(key, flag(true));
        }
    }

    /// Whether it has nothing yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mapping.
    pub fn node(self) -> Node {
        node(Kind::Mapping(self.0))
    }
}
