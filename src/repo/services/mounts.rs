//! The keys `secrets`, `files` and `volumes` of a service.

use std::collections::BTreeSet;

use super::container::{absolute, mode, tmpfs_folder};
use super::key_span;
use crate::model::container::{ContainerSettings, Tmpfs};
use crate::model::mount::{MODE, Owned, SECRETS, SecretMount, SecretRef, VolumeMount, VolumeSource};
use crate::model::name::SecretName;
use crate::model::project::FileSource;
use crate::model::role::TOKEN_FILE;
use crate::model::service::Scale;
use crate::repo::decode::{Fields, Reader, list};
use crate::source::{Diagnostic, Span, suggest};
use crate::yaml::Node;

/// The keys that [`decode`] reads.
pub const KEYS: [&str; 3] = ["secrets", "files", "volumes"];

/// The folder that files of services are kept in, with everything else that is rendered.
const TEMPLATES: &str = "templates/";

/// The kinds of volumes.
const TYPES: [&str; 4] = ["volume", "nfs", "bind", "tmpfs"];

/// The options of NFS mounts that AWS recommends for EFS, in "Recommended NFS mount options" of its user guide.
const NFS_OPTIONS: &str = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport";

/// Reads what is mounted into the containers of a service; files are rendered later.
pub fn decode(
    reader: &mut Reader<'_>,
    service: &Node,
    fields: &Fields<'_>,
    scale: Option<Scale>,
    settings: &mut ContainerSettings,
) -> Vec<FileSource> {
    let mut taken: BTreeSet<String> = settings.tmpfs.keys().cloned().collect();
    // Where the token of a role is. A role that is added later must find it free.
    taken.insert(format!("{SECRETS}/{TOKEN_FILE}"));
    if let Some(node) = fields.get("secrets") {
        for item in reader.items(node, "`secrets`") {
            let Some(secret) = secret(reader, item) else { continue };
            let from = |other: &SecretMount| other.from == secret.from;
            if settings.secrets.iter().any(from) {
                let message = format!("secret `{}` is given twice", secret.from);
                reader.problem(Diagnostic::error("conflicting-keys", message), item.span, "remove one");
                continue;
            }
            if let Some(variable) = &secret.env {
                let twice = settings.secrets.iter().any(|other| other.env.as_ref() == Some(variable));
                let plain = fields.get("env").is_some_and(|env| env.get(variable).is_some());
                if twice || plain {
                    let other = if plain { "`env`" } else { "another secret" };
                    let message = format!("variable `{variable}` is set by {other} and by this secret");
                    let diagnostic = Diagnostic::error("conflicting-keys", message);
                    reader.problem(diagnostic, key_span(item, "env"), "remove one");
                }
            }
            take(reader, &mut taken, key_span(item, "target"), &secret.target);
            settings.secrets.push(secret);
        }
    }
    let mut files = Vec::new();
    if let Some(node) = fields.get("files") {
        for item in reader.items(node, "`files`") {
            let Some(file) = file(reader, item) else { continue };
            take(reader, &mut taken, key_span(item, "target"), &file.target);
            files.push(file);
        }
    }
    if let Some(node) = fields.get("volumes") {
        for item in reader.items(node, "`volumes`") {
            let Some((target, volume)) = volume(reader, item) else { continue };
            take(reader, &mut taken, key_span(item, "target"), &target);
            match volume {
                Volume::Kept(source, read_only) => {
                    settings.volumes.push(VolumeMount { target, source, read_only });
                }
                Volume::Memory(folder) => drop(settings.tmpfs.insert(target, folder)),
            }
        }
    }
    if let (Some(name), Some(Scale::Replicas(2..))) = (settings.named_volumes().next(), scale) {
        let message = format!("volume `{name}` is kept on one machine, so only one instance can use it");
        let diagnostic = Diagnostic::error("conflicting-keys", message).help(
            "run one instance, or keep the data on an NFS server: `{type: nfs, source: \"SERVER:/PATH\"}`",
        );
        reader.problem(diagnostic, key_span(service, "replicas"), "");
    }
    files
}

/// Notes that something is mounted at `target`.
fn take(reader: &mut Reader<'_>, taken: &mut BTreeSet<String>, span: Span, target: &str) {
    let clean = target.trim_end_matches('/').to_owned();
    if !taken.insert(clean) {
        let message = format!("two things are mounted at `{target}`");
        reader.problem(Diagnostic::error("conflicting-keys", message), span, "give one of them another path");
    }
}

/// A secret: its name, or a mapping.
fn secret(reader: &mut Reader<'_>, node: &Node) -> Option<SecretMount> {
    if node.entries().is_none() {
        let name: SecretName = reader.name(node)?;
        let target = format!("{SECRETS}/{name}");
        return Some(SecretMount {
            from: SecretRef::Parameter(name),
            target,
            env: None,
            owned: Owned::default(),
        });
    }
    let keys = ["name", "from", "env", "target", "mode", "uid", "gid"];
    let fields = reader.fields(node, node.span, "a secret", &keys)?;
    let name: Option<SecretName> = reader.required(&fields, "name").and_then(|node| reader.name(node));
    let from = match fields.get("from") {
        Some(node) => Some(reader.name::<SecretRef>(node)?),
        None => None,
    };
    let env = match fields.get("env") {
        Some(node) => Some(variable(reader, node)?),
        None => None,
    };
    let target = match fields.get("target") {
        Some(node) => Some(target(reader, node, Some(SECRETS))?),
        None => None,
    };
    let owned = owned(reader, &fields);
    let name = name?;
    let target = target.unwrap_or_else(|| format!("{SECRETS}/{name}"));
    Some(SecretMount { from: from.unwrap_or(SecretRef::Parameter(name)), target, env, owned: owned? })
}

fn variable(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`env`")?;
    let legal = !text.is_empty() && !text.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control());
    if !legal {
        let message = format!("`{}` is not the name of a variable", text.escape_default());
        let help = "`env` names the variable that gets the value, such as `DATABASE_URL`";
        reader.problem(Diagnostic::error("bad-name", message).help(help), node.span, "");
        return None;
    }
    Some(text.to_owned())
}

/// A path in the container, below `folder` where it is not absolute.
fn target(reader: &mut Reader<'_>, node: &Node, folder: Option<&str>) -> Option<String> {
    let text = reader.text(node, "`target`")?;
    let path = match folder {
        Some(folder) if !text.starts_with('/') => format!("{folder}/{text}"),
        _ => text.to_owned(),
    };
    absolute(reader, node, &path).then_some(path)
}

fn owned(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Owned> {
    let mut number = |key: &str| match fields.get(key) {
        Some(node) => reader.integer(node, &format!("`{key}`"), 0, i64::from(u32::MAX)),
        None => Some(0),
    };
    let (uid, gid) = (number("uid"), number("gid"));
    let mode = match fields.get("mode") {
        Some(node) => mode(reader, node),
        None => Some(MODE),
    };
    Some(Owned { uid: uid?, gid: gid?, mode: mode? })
}

/// A file: `SOURCE:TARGET`, or a mapping.
fn file(reader: &mut Reader<'_>, node: &Node) -> Option<FileSource> {
    if node.entries().is_none() {
        let text = reader.text(node, "a file")?;
        let Some((source, target)) = text.split_once(':') else {
            let diagnostic =
                Diagnostic::error("bad-value", format!("`{text}` does not say where the file goes"));
            reader.problem(diagnostic, node.span, "write `templates/FILE:/PATH/IN/CONTAINER`");
            return None;
        };
        let place = reader.place(node);
        let template = template(reader, node, source);
        let right = absolute(reader, node, target);
        return template.filter(|_| right).map(|template| FileSource {
            template,
            target: target.to_owned(),
            owned: Owned::default(),
            place,
        });
    }
    let fields = reader.fields(node, node.span, "a file", &["source", "target", "mode", "uid", "gid"])?;
    let source = reader.required(&fields, "source");
    let place = source.map(|node| reader.place(node));
    let template = source.and_then(|node| {
        let text = reader.text(node, "`source`")?.to_owned();
        template(reader, node, &text)
    });
    let target = reader.required(&fields, "target").and_then(|node| target(reader, node, None));
    let owned = owned(reader, &fields);
    Some(FileSource { template: template?, target: target?, owned: owned?, place: place? })
}

/// The name of a template, relative to the folder of templates.
fn template(reader: &mut Reader<'_>, node: &Node, source: &str) -> Option<String> {
    let path = source.strip_prefix("./").unwrap_or(source);
    match path.strip_prefix(TEMPLATES) {
        Some(name) if !name.is_empty() => Some(name.to_owned()),
        _ => {
            let diagnostic =
                Diagnostic::error("bad-value", format!("`{source}` is not a file in {TEMPLATES}"));
            let help = "files of services are rendered with Tera, so they are kept with the other templates";
            reader.problem(diagnostic.help(help), node.span, format!("such as `{TEMPLATES}files/app.conf`"));
            None
        }
    }
}

enum Volume {
    /// One that outlives its container, and whether it can't be written.
    Kept(VolumeSource, bool),
    /// A folder in memory.
    Memory(Tmpfs),
}

/// A volume: Compose's short form `SOURCE:TARGET[:ro]`, or a mapping. With its path in the container.
fn volume(reader: &mut Reader<'_>, node: &Node) -> Option<(String, Volume)> {
    if node.entries().is_none() {
        let text = reader.text(node, "a volume")?;
        return short_volume(reader, node, text);
    }
    let kind = match node.get("type") {
        Some(node) => reader.text(node, "`type`")?.to_owned(),
        None => "volume".to_owned(),
    };
    let keys: &[&'static str] = match kind.as_str() {
        "volume" | "bind" => &["type", "source", "target", "read_only"],
        "nfs" => &["type", "source", "target", "read_only", "options"],
        "tmpfs" => &["type", "target", "size", "mode"],
        other => {
            let diagnostic = Diagnostic::error("bad-value", format!("`{other}` is not a type of volume"));
            let label = suggest(other, TYPES)
                .map_or_else(|| format!("one of {}", list(&TYPES)), |near| format!("did you mean `{near}`?"));
            reader.problem(diagnostic, node.get("type").unwrap_or(node).span, label);
            return None;
        }
    };
    let fields = reader.fields(node, node.span, "a volume", keys)?;
    let target = reader.required(&fields, "target").and_then(|node| target(reader, node, None));
    if kind == "tmpfs" {
        let folder = tmpfs_folder(reader, &fields);
        return Some((target?, Volume::Memory(folder)));
    }
    let read_only = match fields.get("read_only") {
        Some(node) => reader.boolean(node, "`read_only`")?,
        None => false,
    };
    let at = reader.required(&fields, "source")?;
    let text = reader.text(at, "`source`")?.to_owned();
    let source = match kind.as_str() {
        "volume" => VolumeSource::Named(reader.name(at)?),
        "bind" => VolumeSource::Host(host(reader, at, &text)?),
        _ => nfs(reader, at, &text, fields.get("options"))?,
    };
    Some((target?, Volume::Kept(source, read_only)))
}

fn short_volume(reader: &mut Reader<'_>, node: &Node, text: &str) -> Option<(String, Volume)> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => {
            let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a volume"));
            let help = "write `data:/var/lib/app` for a volume named `data`, `/srv/data:/data:ro` for a folder of \
                        the machine, or a mapping with `type`, `source` and `target`";
            reader.problem(diagnostic.help(help), node.span, "");
            return None;
        }
    };
    if !absolute(reader, node, target) {
        return None;
    }
    let source = if source.starts_with('/') {
        VolumeSource::Host(host(reader, node, source)?)
    } else {
        match source.parse() {
            Ok(name) => VolumeSource::Named(name),
            Err(error) => {
                let relative = source.starts_with(['.', '~']);
                let diagnostic = Diagnostic::error("bad-name", error.to_string());
                let help = "machines have no copy of the repository; mount a file of it with `files:`";
                let diagnostic = if relative { diagnostic.help(help) } else { diagnostic };
                reader.problem(diagnostic, node.span, "");
                return None;
            }
        }
    };
    Some((target.to_owned(), Volume::Kept(source, read_only)))
}

/// A folder of the machine. Whether it may be mounted is checked with the project's list.
fn host(reader: &mut Reader<'_>, node: &Node, text: &str) -> Option<String> {
    let right = absolute(reader, node, text);
    right.then(|| if text.len() > 1 { text.trim_end_matches('/').to_owned() } else { text.to_owned() })
}

/// `SERVER:/PATH`.
fn nfs(reader: &mut Reader<'_>, node: &Node, text: &str, options: Option<&Node>) -> Option<VolumeSource> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let split = text.split_once(":/").filter(|(server, path)| {
        !server.is_empty() && server.bytes().all(legal) && !path.contains(['\0', ','])
    });
    let Some((server, path)) = split else {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a folder of an NFS server"));
        let help = "EFS is NFS: its server is `fs-ID.efs.REGION.amazonaws.com`";
        reader.problem(diagnostic.help(help), node.span, "write `SERVER:/PATH`");
        return None;
    };
    let options = match options {
        Some(node) => {
            let text = reader.text(node, "`options`")?;
            let own = |option: &str| option.is_empty() || option.starts_with("addr=");
            if text.split(',').any(own) || text.contains(char::is_whitespace) {
                let diagnostic =
                    Diagnostic::error("bad-value", format!("`{text}` are not options of a mount"));
                reader.problem(diagnostic, node.span, "such as `nfsvers=4.1,hard`, without `addr`");
                return None;
            }
            text.to_owned()
        }
        None => NFS_OPTIONS.to_owned(),
    };
    Some(VolumeSource::Nfs { server: server.to_owned(), path: format!("/{path}"), options })
}
