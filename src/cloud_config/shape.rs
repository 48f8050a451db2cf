//! What may stand where: tables of keys, and how a tree is held against them.

use super::finding::{Finding, Report};
use super::scalar::{Scalar, scalar};
use super::target::{Dialect, Target};
use super::{cloud_init, coreos};
use crate::source::Span;
use crate::yaml::Node;

/// A key that a mapping may have.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What its value must be.
    pub shape: Shape,
    /// What else there is to say of it.
    pub note: Note,
}

/// What there is to say of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    Plain,
    /// It must be given.
    Required,
    /// It is taken, and should not be used; and why, or what instead.
    Deprecated(&'static str),
    /// cloud-init 22.4 does not know it.
    Newer,
}

/// What a value must be.
#[derive(Debug)]
pub enum Shape {
    /// Whatever it is.
    Any,
    /// Nothing.
    Null,
    /// A text.
    Text,
    /// A boolean.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// One of these texts.
    Word(&'static [&'static str]),
    /// A text that the function takes; what it looks like, in words.
    Like(fn(&str) -> bool, &'static str),
    /// A list of these, which may be empty.
    List(&'static Shape),
    /// A list of these that cloud-init's schema refuses when it is empty.
    NonEmpty(&'static Shape),
    /// A list of just so many of these.
    Exactly(usize, &'static Shape),
    /// A mapping with any of these keys and no others, which cloud-init's schema refuses when it is
    /// empty.
    Some(&'static [Field]),
    /// A mapping with these keys and no others.
    Map(&'static [Field]),
    /// A mapping with any keys, and these values.
    Each(&'static Shape),
    /// Any of these; the first that can be it at all is held against it.
    Either(&'static [Shape]),
}

/// A field that may be given.
pub const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, note: Note::Plain }
}

/// A field that must be given.
pub const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, note: Note::Required }
}

/// A field that should not be used any more.
pub const fn deprecated(name: &'static str, shape: Shape, instead: &'static str) -> Field {
    Field { name, shape, note: Note::Deprecated(instead) }
}

/// A field that cloud-init 22.4 does not have.
pub const fn newer(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, note: Note::Newer }
}

impl Shape {
    /// In words, such as "a list".
    fn what(&self) -> String {
        match self {
            Self::Any => "anything".into(),
            Self::Null => "nothing".into(),
            Self::Text => "a text".into(),
            Self::Bool => "a boolean".into(),
            Self::Integer => "a whole number".into(),
            Self::Number => "a number".into(),
            Self::Word(words) => {
                let shown = words.iter().filter(|word| !word.is_empty()).map(|word| format!("`{word}`"));
                shown.collect::<Vec<_>>().join(", ")
            }
            Self::Like(_, what) => (*what).into(),
            Self::List(_) | Self::NonEmpty(_) => "a list".into(),
            Self::Exactly(number, _) => format!("a list of {number}"),
            Self::Map(_) | Self::Some(_) | Self::Each(_) => "a mapping".into(),
            Self::Either(shapes) => {
                // What is taken only to be told by itself is not what was asked for.
                let asked = shapes.iter().filter(|shape| !matches!(shape, Self::Each(Self::Any)));
                asked.map(Self::what).collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// Whether `node` is of the kind that this asks for, whatever is in it.
    pub fn takes(&self, node: &Node, dialect: Dialect) -> bool {
        let value = scalar(node);
        match self {
            Self::Any => true,
            Self::Null => value == Some(Scalar::Null),
            // go-yaml gives a number or a boolean as it was written where a text is wanted;
            // cloud-init's schema refuses it.
            Self::Text | Self::Word(_) | Self::Like(..) => match dialect {
                Dialect::CoreOs => value.is_some(),
                Dialect::CloudInit => matches!(value, Some(Scalar::Text(_))),
            },
            Self::Bool => matches!(value, Some(Scalar::Bool(_))),
            Self::Integer => matches!(value, Some(Scalar::Integer(_))),
            Self::Number => matches!(value, Some(Scalar::Integer(_) | Scalar::Float)),
            Self::List(_) | Self::NonEmpty(_) | Self::Exactly(..) => node.items().is_some(),
            Self::Map(_) | Self::Some(_) | Self::Each(_) => node.entries().is_some(),
            Self::Either(shapes) => shapes.iter().any(|shape| shape.takes(node, dialect)),
        }
    }
}

/// A tree being held against a table.
#[derive(Debug)]
pub struct Structure<'r, 't> {
    /// Where findings go.
    pub report: &'r mut Report<'t>,
    /// Whose table it is.
    pub dialect: Dialect,
}

impl Structure<'_, '_> {
    fn targets(&self) -> &'static [Target] {
        Target::defaults(self.dialect)
    }

    /// Holds `node`, the value of `name`, against `shape`.
    pub fn check(&mut self, node: &Node, shape: &Shape, name: &str) {
        // An empty value is as good as none to coreos-cloudinit.
        if self.dialect == Dialect::CoreOs && scalar(node) == Some(Scalar::Null) {
            return;
        }
        if !shape.takes(node, self.dialect) {
            self.wrong_type(node, shape, name);
            return;
        }
        let bad = |shape: &Shape| {
            Finding::error("bad-value", node.span, format!("{name} must be {}", shape.what()))
        };
        match shape {
            Shape::Word(words) => {
                let text = node.text().unwrap_or_default();
                if !words.contains(&text) {
                    let near = self.report.suggest(text, words.iter().copied());
                    let label = near.map_or_else(String::new, |near| format!("did you mean `{near}`?"));
                    self.report.add(self.targets(), bad(shape).label(label));
                }
            }
            Shape::Like(test, _) => {
                if !test(node.text().unwrap_or_default()) {
                    self.report.add(self.targets(), bad(shape));
                }
            }
            Shape::List(inner) | Shape::NonEmpty(inner) => {
                let items = node.items().unwrap_or_default();
                if items.is_empty() && matches!(shape, Shape::NonEmpty(_)) {
                    let message = format!("{name} is an empty list, which cloud-init's schema refuses");
                    let finding = Finding::error("bad-value", node.span, message);
                    self.report.add(self.targets(), finding.help("leave the key out"));
                }
                let own = format!("an item of {name}");
                let own = if name.starts_with("an item") { name } else { &own };
                items.iter().for_each(|item| self.check(item, inner, own));
            }
            Shape::Exactly(number, inner) => {
                let items = node.items().unwrap_or_default();
                if items.len() != *number {
                    self.report.add(self.targets(), bad(shape));
                }
                items.iter().for_each(|item| self.check(item, inner, name));
            }
            Shape::Some(fields) => {
                if node.entries().is_some_and(<[_]>::is_empty) {
                    let message = format!("{name} is an empty mapping, which cloud-init's schema refuses");
                    let finding = Finding::error("bad-value", node.span, message);
                    self.report.add(self.targets(), finding.help("leave the key out"));
                }
                self.keys(node, fields, name);
            }
            Shape::Map(fields) => self.keys(node, fields, name),
            Shape::Each(inner) => {
                for (key, value) in node.entries().unwrap_or_default() {
                    self.check(value, inner, &format!("`{}`", key.text().unwrap_or_default()));
                }
            }
            Shape::Either(shapes) => {
                let taking = || shapes.iter().filter(|shape| shape.takes(node, self.dialect));
                // A text that is one of the words is not held against the others.
                let exact = taking().find(|shape| match shape {
                    Shape::Word(words) => words.contains(&node.text().unwrap_or_default()),
                    Shape::Like(test, _) => test(node.text().unwrap_or_default()),
                    _ => true,
                });
                let only = (taking().count() == 1).then(|| taking().next()).flatten();
                match exact.or(only) {
                    Some(shape) => self.check(node, shape, name),
                    None => self.report.add(self.targets(), bad(shape)),
                }
            }
            Shape::Any | Shape::Null | Shape::Text | Shape::Bool | Shape::Integer | Shape::Number => {}
        }
    }

    fn wrong_type(&mut self, node: &Node, shape: &Shape, name: &str) {
        let is = match scalar(node) {
            Some(Scalar::Bool(_)) => "a boolean",
            Some(Scalar::Integer(_) | Scalar::Float) => "a number",
            Some(Scalar::Date) => "a date",
            Some(Scalar::Null) => "nothing",
            Some(Scalar::Text(_)) | None => node.what(),
        };
        let message = format!("{name} must be {}, but this is {is}", shape.what());
        let mut finding = Finding::error("wrong-type", node.span, message);
        let text = matches!(shape, Shape::Text | Shape::Word(_) | Shape::Like(..));
        if let Some(written) = node.text().filter(|written| text && !written.is_empty()) {
            finding = finding.label(format!("write \"{written}\""));
        }
        self.report.add(
            self.targets(),
            finding.help(match self.dialect {
                Dialect::CoreOs => {
                    "coreos-legacy drops the value without a word; flatcar refuses the whole document"
                }
                Dialect::CloudInit => {
                    "`cloud-init schema` refuses it; at boot the module may do without it, or fail"
                }
            }),
        );
    }

    fn keys(&mut self, node: &Node, fields: &'static [Field], name: &str) {
        let entries = node.entries().unwrap_or_default();
        for (key, value) in entries {
            let written = key.text().unwrap_or_default();
            let exact = fields.iter().find(|field| field.name == written);
            let underscored = written.replace('-', "_");
            let field = exact.or_else(|| match self.dialect {
                Dialect::CoreOs => fields.iter().find(|field| field.name == underscored),
                Dialect::CloudInit => None,
            });
            let Some(field) = field else {
                self.unknown(key.span, written, fields, name);
                continue;
            };
            if exact.is_none() {
                let message = format!("`{written}` is dropped without a word: keys have underscores");
                let finding = Finding::error("hyphenated-key", key.span, message);
                self.report.add(&[Target::Flatcar], finding.label(format!("write `{}`", field.name)));
            }
            match field.note {
                Note::Plain | Note::Required => {}
                Note::Deprecated(why) => {
                    let message = format!("`{written}` is deprecated");
                    let finding = Finding::warning("deprecated-key", key.span, message).label(why);
                    self.report.add(self.targets(), finding);
                }
                Note::Newer => {
                    let message = format!("`{written}` is not known to cloud-init 22.4");
                    let finding = Finding::error("unknown-key", key.span, message);
                    self.report.add(&[Target::CloudInit22_4], finding);
                }
            }
            self.check(value, &field.shape, &format!("`{written}`"));
        }
        for field in fields.iter().filter(|field| field.note == Note::Required) {
            let given =
                |(key, _): &(Node, Node)| key.text().is_some_and(|key| key.replace('-', "_") == field.name);
            if !entries.iter().any(given) {
                let message = format!("`{}` is missing", field.name);
                self.report.add(self.targets(), Finding::error("missing-key", node.span, message));
            }
        }
    }

    /// Holds the root of a document against its dialect's keys.
    pub fn root(&mut self, root: &Node) {
        let fields = match self.dialect {
            Dialect::CoreOs => coreos::ROOT,
            Dialect::CloudInit => cloud_init::TYPED,
        };
        self.keys(root, fields, "");
    }

    /// A key of the root that is in no table of its dialect: it may be the other's.
    fn unknown_at_root(&mut self, span: Span, written: &str) {
        let theirs = |known: &str, who: &str| {
            let message = format!("`{written}` is {known}; {who} passes over it without a word");
            Finding::error("wrong-dialect", span, message)
        };
        let near = match self.dialect {
            Dialect::CoreOs if cloud_init::is_key(written) => {
                let finding = theirs("a key of cloud-init", "coreos-cloudinit");
                return self.report.add(&Target::COREOS, finding.help("use files and units instead"));
            }
            Dialect::CloudInit if written == "coreos" => {
                let finding = theirs("a key of coreos-cloudinit", "cloud-init");
                let help = "use `write_files` and `runcmd`: units are files below /etc/systemd/system";
                return self.report.add(&Target::CLOUD_INIT, finding.help(help));
            }
            Dialect::CloudInit if cloud_init::is_newer(written) => {
                let message = format!("`{written}` is not known to cloud-init 22.4");
                let finding = Finding::error("unknown-key", span, message);
                return self.report.add(&[Target::CloudInit22_4], finding);
            }
            Dialect::CloudInit if cloud_init::is_key(written) => return,
            Dialect::CoreOs => {
                self.report.suggest(&written.replace('-', "_"), coreos::ROOT.iter().map(|field| field.name))
            }
            Dialect::CloudInit => self.report.suggest(&written.replace('-', "_"), cloud_init::names()),
        };
        let mut finding = Finding::error("unknown-key", span, format!("unknown key `{written}`"));
        if let Some(near) = near {
            finding = finding.label(format!("did you mean `{near}`?"));
        }
        self.report.add(
            self.targets(),
            finding.help(match self.dialect {
                Dialect::CoreOs => "coreos-cloudinit passes over it without a word",
                Dialect::CloudInit => {
                    "at boot it is passed over without a word; `cloud-init schema` refuses it from 23.4 on"
                }
            }),
        );
    }

    fn unknown(&mut self, span: Span, written: &str, fields: &[Field], name: &str) {
        if name.is_empty() {
            return self.unknown_at_root(span, written);
        }
        let near = self.report.suggest(&written.replace('-', "_"), fields.iter().map(|field| field.name));
        let message = format!("unknown key `{written}` in {name}");
        let mut finding = Finding::error("unknown-key", span, message);
        if let Some(near) = near {
            finding = finding.label(format!("did you mean `{near}`?"));
        } else if fields.len() <= 24 {
            let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
            finding = finding.help(format!("there are {}", names.join(", ")));
        }
        self.report.add(self.targets(), finding);
    }
}
