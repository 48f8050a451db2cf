//! The tree of a document to the model.

use super::{Command, CommandKind, Config, DropIn, File, Mount, Section, Spanned, Swap, Unit, User};
use crate::cloud_config::content::{self, Encoding};
use crate::cloud_config::coreos;
use crate::cloud_config::scalar::{Scalar, boolean, scalar};
use crate::cloud_config::target::Dialect;
use crate::yaml::Node;

/// The entry `name`, whether written with underscores or hyphens.
pub fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.get(name).or_else(|| {
        let same = |(key, _): &&(Node, Node)| key.text().is_some_and(|key| key.replace('-', "_") == name);
        node.entries()?.iter().find(same).map(|(_, value)| value)
    })
}

fn text(node: &Node, name: &str) -> Option<Spanned<String>> {
    let node = entry(node, name)?;
    let value = node.text().filter(|_| scalar(node) != Some(Scalar::Null))?;
    Some(Spanned { value: value.to_owned(), span: node.span })
}

fn flag(node: &Node, name: &str) -> bool {
    entry(node, name).and_then(boolean).unwrap_or(false)
}

fn items<'n>(node: &'n Node, name: &str) -> &'n [Node] {
    entry(node, name).and_then(Node::items).unwrap_or_default()
}

fn texts(node: &Node, name: &str) -> Vec<Spanned<String>> {
    let spanned = |item: &Node| Some(Spanned { value: item.text()?.to_owned(), span: item.span });
    items(node, name).iter().filter_map(spanned).collect()
}

/// The entries as texts, sorted by key: what is not a scalar comes as one line of JSON.
pub fn options(node: &Node) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = node
        .entries()
        .unwrap_or_default()
        .iter()
        .map(|(key, value)| (key.text().unwrap_or_default().replace('-', "_"), plain(value)))
        .collect();
    options.sort();
    options
}

/// The options of a section of `coreos`: where a text is asked for, it is `off` and no boolean.
fn settings(section: &str, node: &Node) -> Vec<(String, String)> {
    let section = section.replace('-', "_");
    let mut options = options(node);
    for (key, value) in node.entries().unwrap_or_default() {
        let name = key.text().unwrap_or_default().replace('-', "_");
        if let Some(text) = value.text().filter(|_| coreos::is_text(&section, &name)) {
            options
                .iter_mut()
                .filter(|(key, _)| *key == name)
                .for_each(|(_, value)| *value = text.to_owned());
        }
    }
    options
}

/// A value in one form, however it was written.
pub fn plain(node: &Node) -> String {
    match (node.entries(), node.items()) {
        (Some(_), _) => {
            let inner = options(node);
            let inner: Vec<String> =
                inner.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
            format!("{{{}}}", inner.join(", "))
        }
        (_, Some(items)) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        _ => match scalar(node) {
            Some(Scalar::Bool(value)) => value.to_string(),
            Some(Scalar::Null) => String::new(),
            _ => node.text().unwrap_or_default().to_owned(),
        },
    }
}

impl<'n> Config<'n> {
    /// Reads the tree of a document.
    pub fn read(root: &'n Node, dialect: Dialect) -> Self {
        let coreos = entry(root, "coreos");
        let mut config = Self {
            dialect,
            hostname: text(root, "hostname"),
            fqdn: text(root, "fqdn"),
            files: items(root, "write_files").iter().filter_map(file).collect(),
            units: coreos
                .map(|node| items(node, "units").iter().filter_map(unit).collect())
                .unwrap_or_default(),
            users: Vec::new(),
            default_user: entry(root, "users").and_then(Node::items).is_none(),
            groups: groups(root),
            ssh_authorized_keys: texts(root, "ssh_authorized_keys"),
            boot_commands: items(root, "bootcmd").iter().map(command).collect(),
            run_commands: items(root, "runcmd").iter().map(command).collect(),
            packages: items(root, "packages").iter().filter_map(package).collect(),
            mounts: items(root, "mounts").iter().filter_map(mount).collect(),
            swap: entry(root, "swap").map(|node| Swap { span: node.span, options: options(node) }),
            sections: Vec::new(),
            rest: Vec::new(),
        };
        for item in items(root, "users") {
            match item.text() {
                Some("default") => config.default_user = true,
                _ => config.users.extend(user(item)),
            }
        }
        if let Some(user) = entry(root, "user").filter(|node| node.entries().is_some()) {
            config.users.extend(self::user(user));
        }
        for (key, value) in coreos.and_then(Node::entries).unwrap_or_default() {
            let name = key.text().unwrap_or_default();
            if name != "units" {
                let name = Spanned { value: name.to_owned(), span: key.span };
                config.sections.push(Section { options: settings(&name.value, value), name });
            }
        }
        const READ: [&str; 13] = [
            "coreos",
            "hostname",
            "fqdn",
            "write_files",
            "users",
            "user",
            "groups",
            "ssh_authorized_keys",
            "bootcmd",
            "runcmd",
            "packages",
            "mounts",
            "swap",
        ];
        for (key, value) in root.entries().unwrap_or_default() {
            let name = key.text().unwrap_or_default();
            if !READ.contains(&name.replace('-', "_").as_str()) {
                config.rest.push((Spanned { value: name.to_owned(), span: key.span }, value));
            }
        }
        config
    }
}

fn file(node: &Node) -> Option<File<'_>> {
    node.entries()?;
    let content = entry(node, "content");
    let encoding = entry(node, "encoding").and_then(Node::text).unwrap_or_default();
    let encoding = Encoding::of(&encoding.trim().to_lowercase()).unwrap_or(Encoding::Plain);
    let raw = content.map_or(Ok(Vec::new()), content::raw);
    Some(File {
        span: node.span,
        path: text(node, "path"),
        content,
        data: raw.and_then(|raw| content::decode(&raw, encoding)),
        encoding,
        permissions: entry(node, "permissions").filter(|node| scalar(node) != Some(Scalar::Null)),
        owner: text(node, "owner"),
        append: flag(node, "append"),
        defer: flag(node, "defer"),
    })
}

fn unit(node: &Node) -> Option<Unit> {
    node.entries()?;
    let drop_in = |item: &Node| {
        item.entries()?;
        Some(DropIn { span: item.span, name: text(item, "name"), content: text(item, "content") })
    };
    let enable = entry(node, "enable");
    Some(Unit {
        span: node.span,
        name: text(node, "name"),
        mask: flag(node, "mask"),
        enable: enable
            .and_then(|node| boolean(node).map(|value| Spanned { value, span: node.span }))
            .filter(|enable| enable.value),
        runtime: flag(node, "runtime"),
        content: text(node, "content").filter(|content| !content.value.is_empty()),
        command: text(node, "command").filter(|command| !command.value.is_empty()),
        drop_ins: items(node, "drop_ins").iter().filter_map(drop_in).collect(),
    })
}

fn user(node: &Node) -> Option<User> {
    if let Some(name) = node.text() {
        let name = Some(Spanned { value: name.to_owned(), span: node.span });
        return Some(User {
            span: node.span,
            name,
            groups: Vec::new(),
            primary_group: None,
            sudo: Vec::new(),
            hash: None,
            plain: None,
            keys: Vec::new(),
            rest: Vec::new(),
        });
    }
    node.entries()?;
    let primary_group = text(node, "primary_group").map(|group| group.value);
    let mut groups: Vec<String> = primary_group.iter().cloned().collect();
    groups.extend(names(entry(node, "groups")));
    let own = [
        "name",
        "passwd",
        "hashed_passwd",
        "plain_text_passwd",
        "ssh_authorized_keys",
        "groups",
        "primary_group",
    ];
    let mut rest = options(node);
    rest.retain(|(key, _)| !own.contains(&key.as_str()));
    Some(User {
        span: node.span,
        name: text(node, "name"),
        groups,
        primary_group,
        sudo: entry(node, "sudo").map(rules).unwrap_or_default(),
        hash: text(node, "passwd").or_else(|| text(node, "hashed_passwd")),
        plain: text(node, "plain_text_passwd"),
        keys: texts(node, "ssh_authorized_keys"),
        rest,
    })
}

/// What `sudo` allows: a rule, or a list of them; `false` is none.
fn rules(node: &Node) -> Vec<String> {
    let rule = |node: &Node| match scalar(node) {
        Some(Scalar::Text(rule)) if !rule.trim().is_empty() => Some(rule.trim().to_owned()),
        _ => None,
    };
    match node.items() {
        Some(items) => items.iter().filter_map(rule).collect(),
        None => rule(node).into_iter().collect(),
    }
}

/// Names in a list, or in one text with commas.
fn names(node: Option<&Node>) -> Vec<String> {
    let Some(node) = node else { return Vec::new() };
    let split = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let names: Vec<String> = match (node.items(), node.entries()) {
        (Some(items), _) => items.iter().filter_map(Node::text).map(str::to_owned).collect(),
        (_, Some(entries)) => entries.iter().filter_map(|(key, _)| key.text()).map(str::to_owned).collect(),
        (None, None) => node.text().map(split).unwrap_or_default(),
    };
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

fn groups(root: &Node) -> Vec<(Spanned<String>, Vec<String>)> {
    let Some(node) = entry(root, "groups") else { return Vec::new() };
    let spanned = |node: &Node| Some(Spanned { value: node.text()?.to_owned(), span: node.span });
    let of = |node: &Node| -> Vec<_> {
        let entries = node.entries().unwrap_or_default().iter();
        entries.filter_map(|(key, value)| Some((spanned(key)?, names(Some(value))))).collect()
    };
    match node.items() {
        None if node.entries().is_some() => of(node),
        None => names(Some(node))
            .into_iter()
            .map(|value| (Spanned { value, span: node.span }, Vec::new()))
            .collect(),
        Some(items) => items
            .iter()
            .flat_map(|item| spanned(item).map_or_else(|| of(item), |name| vec![(name, Vec::new())]))
            .collect(),
    }
}

fn command(node: &Node) -> Command {
    let kind = match (node.entries(), node.items()) {
        (Some(entries), _) => match entries.first() {
            Some((key, value)) => CommandKind::Mapping(plain(key), plain(value)),
            None => CommandKind::Other,
        },
        (_, Some(items)) => CommandKind::Words(items.iter().map(plain).collect()),
        _ => match (scalar(node), node.text()) {
            (Some(Scalar::Text(_)), Some(line)) => CommandKind::Shell(line.to_owned()),
            _ => CommandKind::Other,
        },
    };
    Command { span: node.span, kind }
}

fn package(node: &Node) -> Option<Spanned<String>> {
    let value = match node.items() {
        Some(items) => items.iter().filter_map(Node::text).collect::<Vec<_>>().join("="),
        None => node.text()?.to_owned(),
    };
    Some(Spanned { value, span: node.span })
}

fn mount(node: &Node) -> Option<Mount> {
    Some(Mount { span: node.span, fields: node.items()?.iter().map(plain).collect() })
}
