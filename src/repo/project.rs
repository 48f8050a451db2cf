//! `fleetwright.yaml`: the project, its environments, clusters and git repositories.

use std::sync::Arc;
use std::time::Duration;

use super::check::accept;
use super::decode::Reader;
use super::interpolate::{Variables, setting};
use super::{access, agent, keep, notify, secret_scopes};
use crate::model::access::Policy;
use crate::model::address::{self, AddressPool, BadPool, SUBNET_LONGEST, SUBNET_SHORTEST};
use crate::model::commit_status::{Forge, StatusTarget};
use crate::model::keep::Keep;
use crate::model::name::{ClusterName, ProjectName};
use crate::model::notify::Receivers;
use crate::model::project::{Addresses, Cluster, Engine, Environment, GitRepository, Registry, RegistryKind};
use crate::model::published::PublishedAgent;
use crate::model::setting::{Place, Setting};
use crate::schema;
use crate::source::{Diagnostic, SourceFile, Span, suggest};
use crate::yaml::Node;

/// The code of a region that is not known.
const UNKNOWN_REGION: &str = "unknown-region";

/// The key with the folders of machines that services may mount.
pub const HOST_PATHS: &str = "host_paths";

/// The time between two looks at a git repository, unless given.
const POLL: Duration = Duration::from_secs(30);

/// The shortest time between two looks; less would only load the server.
const POLL_LEAST: Duration = Duration::from_millis(500);

/// What `fleetwright.yaml` says.
#[derive(Debug, Default)]
pub struct Project {
    /// The project's name.
    pub name: Option<ProjectName>,
    /// The environments; the first is the default.
    pub environments: Vec<Environment>,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// The git repositories.
    pub repositories: Vec<GitRepository>,
    /// The folders of machines that services may mount, with everything in them.
    pub host_paths: Vec<String>,
    /// What the pipeline server keeps.
    pub keep: Keep,
}

/// Decodes `fleetwright.yaml`.
pub fn decode(reader: &mut Reader<'_>, root: &Node, variables: Variables<'_>) -> Project {
    let mut project = Project::default();
    let keys = [
        "project",
        "environments",
        "clusters",
        "repositories",
        "access",
        notify::KEY,
        agent::KEY,
        HOST_PATHS,
        keep::KEY,
    ];
    let Some(fields) = reader.fields(root, root.span, "fleetwright.yaml", &keys) else { return project };
    project.name = reader.required(&fields, "project").and_then(|node| reader.name(node));
    if let Some(node) = reader.required(&fields, "clusters") {
        for (key, value) in reader.entries(node, "`clusters`") {
            project.clusters.extend(cluster(reader, key, value, variables));
        }
    }
    let everywhere = policy(reader, root, fields.get("access"));
    let notified = receivers(reader, root, fields.get(notify::KEY));
    let agent = published(reader, root, fields.get(agent::KEY));
    let first = reader.problems.len();
    if let Some(node) = reader.required(&fields, "environments") {
        let entries = reader.entries(node, "`environments`");
        if entries.is_empty() && node.entries().is_some() {
            let diagnostic =
                Diagnostic::error("missing-key", "`environments` needs at least one environment");
            reader.problem(diagnostic, node.span, "this is empty");
        }
        for (key, value) in entries {
            project.environments.extend(environment(reader, key, value, variables).map(|mut found| {
                // An environment's own section replaces the project's: nothing is merged.
                found.access = found.access.or_else(|| everywhere.clone());
                found.notify = found.notify.or_else(|| notified.clone());
                found.agent = found.agent.or_else(|| agent.clone());
                found
            }));
        }
        for node in entries.iter().filter_map(|(_, value)| value.get("cluster")) {
            unknown_cluster(reader, node, root);
        }
    }
    accepted(reader, first);
    if let Some(node) = fields.get(HOST_PATHS) {
        for item in reader.items(node, "`host_paths`") {
            let Some(path) = reader.text(item, "a path").map(str::to_owned) else { continue };
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                let diagnostic = Diagnostic::error("bad-value", format!("`{path}` is not an absolute path"));
                reader.problem(diagnostic, item.span, "such as `/var/log/app`");
                continue;
            }
            project.host_paths.push(path);
        }
    }
    if let Some(node) = fields.get(keep::KEY) {
        let place = root.entry(keep::KEY).map_or(node.span, |(key, _)| key.span);
        project.keep = keep::decode(reader, node, place);
    }
    if let Some(node) = fields.get("repositories") {
        for (key, value) in reader.entries(node, "`repositories`") {
            project.repositories.extend(repository(reader, key, value, variables));
        }
    }
    project
}

fn environment(
    reader: &mut Reader<'_>,
    key: &Node,
    value: &Node,
    variables: Variables<'_>,
) -> Option<Environment> {
    let name = reader.name(key);
    let keys = [
        "region",
        "account",
        "role",
        "cluster",
        "registry",
        "server",
        "access",
        notify::KEY,
        agent::KEY,
        secret_scopes::KEY,
        "protect",
    ];
    let fields = reader.fields(value, key.span, "an environment", &keys)?;
    let region = reader.required(&fields, "region").and_then(|node| {
        let region = setting(reader, node, "`region`", variables)?;
        if region.unset().is_empty() {
            unknown_region(reader, node, region.shown());
        }
        Some(region)
    });
    let cluster = reader.required(&fields, "cluster").and_then(|node| reader.name(node));
    let registry = fields.get("registry").and_then(|node| {
        let place = value.entry("registry").map_or(node.span, |(key, _)| key.span);
        registry(reader, node, place, variables)
    });
    let server = fields.get("server").and_then(|node| {
        let server = setting(reader, node, "`server`", variables)?;
        if server.unset().is_empty()
            && let Err(label) = server_address(server.shown())
        {
            let message =
                format!("`{}` is not the address of a pipeline server", without_user(server.shown()));
            // What stands before `@` may be a secret.
            let file = if server.shown().contains('@') {
                masked(reader.file, node.span)
            } else {
                Arc::clone(reader.file)
            };
            let diagnostic = Diagnostic::error("bad-value", message).at(&file, node.span, label);
            reader.problems.push(diagnostic.help("such as `https://ci.example.com`"));
        }
        Some(server)
    });
    let access = policy(reader, value, fields.get("access"));
    let account = fields.get("account").and_then(|node| {
        let account = setting(reader, node, "`account`", variables)?;
        let digits = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        if account.unset().is_empty() && !digits(account.shown()) {
            let message = format!("`{}` is not the number of an AWS account", account.shown());
            reader.problem(Diagnostic::error("bad-value", message), node.span, "it has 12 digits");
        }
        Some(account)
    });
    let role = fields.get("role").and_then(|node| {
        let role = setting(reader, node, "`role`", variables)?;
        if role.unset().is_empty() && !is_role(role.shown()) {
            let message = format!("`{}` is not the ARN of a role", role.shown());
            let label = "it is like `arn:aws:iam::123456789012:role/deploy`";
            reader.problem(Diagnostic::error("bad-value", message), node.span, label);
        }
        Some(role)
    });
    Some(Environment {
        name: name?,
        region: region?,
        account,
        role,
        cluster: cluster?,
        registry,
        server,
        access,
        notify: receivers(reader, value, fields.get(notify::KEY)),
        agent: published(reader, value, fields.get(agent::KEY)),
        pipeline_secrets: fields.get(secret_scopes::KEY).map(|node| secret_scopes::decode(reader, node)),
        protect: fields.get("protect").and_then(|node| reader.boolean(node, "`protect`")).unwrap_or(false),
        place: Place::new(reader.file, key.span),
    })
}

/// The section `access` of `parent`.
fn policy(reader: &mut Reader<'_>, parent: &Node, node: Option<&Node>) -> Option<Policy> {
    let node = node?;
    let place = parent.entry("access").map_or(node.span, |(key, _)| key.span);
    access::decode(reader, node, place)
}

/// The section `notify` of `parent`.
fn receivers(reader: &mut Reader<'_>, parent: &Node, node: Option<&Node>) -> Option<Receivers> {
    let node = node?;
    let place = parent.entry(notify::KEY).map_or(node.span, |(key, _)| key.span);
    notify::decode(reader, node, place)
}

/// The section `agent` of `parent`.
fn published(reader: &mut Reader<'_>, parent: &Node, node: Option<&Node>) -> Option<PublishedAgent> {
    let node = node?;
    let place = parent.entry(agent::KEY).map_or(node.span, |(key, _)| key.span);
    agent::decode(reader, node, place)
}

/// Checks the address of a pipeline server, which gets a token with every request.
fn server_address(text: &str) -> Result<(), &'static str> {
    let (plain, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err("it must start with `https://`"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("a user does not belong here; the token is in FLEETWRIGHT_SERVE_TOKEN");
    }
    if rest.contains(['/', '?', '#']) || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it must be a scheme, a host and a port, without a path");
    }
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("it has no host");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("its port is not a number up to 65535");
    }
    let loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if plain && !loopback {
        return Err("the token would be sent in the clear: use `https://`");
    }
    Ok(())
}

/// The text with stars in place of what stands before `@`.
fn without_user(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (None, Some((_, host))) => format!("***@{host}"),
        (_, None) => text.to_owned(),
    }
}

fn is_role(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    matches!(parts[..], ["arn", _, "iam", "", account, role]
        if account.len() == 12 && role.starts_with("role/") && role.len() > 5)
}

fn registry(reader: &mut Reader<'_>, node: &Node, place: Span, variables: Variables<'_>) -> Option<Registry> {
    let keys = ["push", "pull", "kind", "push_credentials", "credentials"];
    let fields = reader.fields(node, place, "a registry", &keys)?;
    let push = reader.required(&fields, "push").and_then(|node| setting(reader, node, "`push`", variables));
    let pull = fields.get("pull").and_then(|node| setting(reader, node, "`pull`", variables));
    // `credentials` is what it was called when machines had the same.
    let key = if fields.get("push_credentials").is_some() { "push_credentials" } else { "credentials" };
    if let (Some(_), Some(node)) = (fields.get("push_credentials"), fields.get("credentials")) {
        let diagnostic =
            Diagnostic::error("bad-value", "`credentials` is the old name of `push_credentials`");
        reader.problem(diagnostic, node.span, "give one of them");
    }
    let ecr = match fields.get("kind") {
        None => false,
        Some(node) => match reader.text(node, "`kind`") {
            Some("ecr") => true,
            None | Some("docker") => false,
            Some(other) => {
                let diagnostic =
                    Diagnostic::error("bad-value", format!("there is no kind of registry `{other}`"));
                reader.problem(diagnostic, node.span, "write `docker` or `ecr`");
                false
            }
        },
    };
    if let (true, Some(node)) = (ecr, fields.get(key)) {
        let diagnostic = Diagnostic::error("bad-value", format!("a registry of ECR has no `{key}`"));
        reader.problem(diagnostic.help("its token comes from the caller's own role"), node.span, "remove it");
    }
    let credentials = fields.get(key).and_then(|node| setting(reader, node, &format!("`{key}`"), variables));
    if let (Some(node), Some(setting)) = (fields.get(key), &credentials)
        && setting.unset().is_empty()
        && !setting.shown().starts_with('/')
    {
        // It may be the secret itself, which must not reach a log.
        let file = masked(reader.file, node.span);
        let diagnostic = Diagnostic::error("bad-value", format!("`{key}` must be the name of an SSM parameter"))
            .at(&file, node.span, "it must start with `/`")
            .help("give the parameter's name, such as `/fleetwright/registry`; a secret must not be in the repository");
        reader.problems.push(diagnostic);
    }
    let push = push?;
    let push_access = match (ecr, credentials) {
        (true, _) => RegistryKind::Ecr,
        (false, Some(name)) => RegistryKind::Parameter(name),
        (false, None) => RegistryKind::Open,
    };
    Some(Registry { pull: pull.unwrap_or_else(|| push.clone()), push, push_access })
}

/// The file with stars in place of `span`.
fn masked(file: &Arc<SourceFile>, span: Span) -> Arc<SourceFile> {
    let mut text = file.text().to_owned();
    text.replace_range(span.start..span.end, &"*".repeat(span.end - span.start));
    SourceFile::new(file.name(), text)
}

fn cluster(reader: &mut Reader<'_>, key: &Node, value: &Node, variables: Variables<'_>) -> Option<Cluster> {
    let name = reader.name(key);
    let fields = reader.fields(value, key.span, "a cluster", &["engine", "endpoint", "addresses"])?;
    if let Some(node) = reader.required(&fields, "engine") {
        match reader.text(node, "`engine`") {
            None | Some("swarm") => {}
            Some(other) => {
                let diagnostic = Diagnostic::error("bad-value", format!("there is no engine `{other}`"));
                let label = suggest(other, ["swarm"])
                    .map_or("write `swarm`".into(), |near| format!("did you mean `{near}`?"));
                reader.problem(diagnostic, node.span, label);
            }
        }
    }
    let endpoint = fields.get("endpoint").and_then(|node| {
        let endpoint = setting(reader, node, "`endpoint`", variables)?;
        if endpoint.unset().is_empty() && !endpoint.shown().starts_with("https://") {
            let diagnostic = Diagnostic::error(
                "bad-value",
                format!("`{}` is not the address of a cluster's API", endpoint.shown()),
            );
            reader.problem(diagnostic, node.span, "it must start with `https://`");
        }
        Some(endpoint)
    });
    let addresses = match fields.get("addresses") {
        Some(node) => addresses(reader, node)?,
        None => Addresses { pool: AddressPool::default(), place: Place::new(reader.file, key.span) },
    };
    Some(Cluster {
        name: name?,
        engine: Engine::Swarm,
        endpoint,
        addresses,
        place: Place::new(reader.file, key.span),
    })
}

/// `addresses`: from which pool the overlay networks get theirs.
fn addresses(reader: &mut Reader<'_>, node: &Node) -> Option<Addresses> {
    let fields = reader.fields(node, node.span, "the addresses of a cluster", &["pool", "subnet"])?;
    let default = AddressPool::default();
    let (mut place, mut bad) = (node, None);
    let range = match fields.get("pool") {
        None => Some(default.pool()),
        Some(given) => {
            place = given;
            let text = reader.text(given, "`pool`")?;
            address::range(text).map_err(|error| bad = Some(BadPool::Range(error))).ok()
        }
    };
    let subnet = match fields.get("subnet") {
        None => Some(default.subnet()),
        Some(given) => reader.integer(given, "`subnet`", SUBNET_SHORTEST.into(), SUBNET_LONGEST.into()),
    };
    let pool = match (range, subnet) {
        (Some(range), Some(subnet)) => {
            AddressPool::new(range, subnet).map_err(|error| bad = Some(error)).ok()
        }
        _ => None,
    };
    if let Some(bad) = bad {
        reader.problem(Diagnostic::error("bad-address-pool", bad.to_string()), place.span, "");
    }
    Some(Addresses { pool: pool?, place: reader.place(place) })
}

fn repository(
    reader: &mut Reader<'_>,
    key: &Node,
    value: &Node,
    variables: Variables<'_>,
) -> Option<GitRepository> {
    let name = reader.name(key);
    let fields =
        reader.fields(value, key.span, "a repository", &["url", "branch", "poll", "webhook", "status"])?;
    let place = Place::new(reader.file, key.span);
    let url = reader.required(&fields, "url").and_then(|node| setting(reader, node, "`url`", variables));
    let branch = match fields.get("branch") {
        Some(node) => setting(reader, node, "`branch`", variables),
        None => Some(Setting::new("main".into(), Vec::new(), Vec::new(), place.clone())),
    };
    let poll = fields.get("poll").map_or(Some(POLL), |node| {
        let poll = reader.duration(node, "`poll`")?;
        if poll < POLL_LEAST {
            let diagnostic = Diagnostic::error("out-of-range", "`poll` must be at least `500ms`");
            reader.problem(diagnostic, node.span, "too short");
        }
        Some(poll)
    });
    let webhook = fields.get("webhook").map(|node| webhook(reader, node)).unwrap_or_default();
    let status = fields.get("status").and_then(|node| status(reader, node));
    Some(GitRepository { name: name?, url: url?, branch: branch?, poll: poll?, webhook, status, place })
}

/// Where the state of runs is reported.
fn status(reader: &mut Reader<'_>, node: &Node) -> Option<StatusTarget> {
    let fields = reader.fields(node, node.span, "`status`", &["forge", "server", "project", "token"])?;
    let forge = reader.required(&fields, "forge").and_then(|node| {
        let text = reader.text(node, "`forge`")?;
        let found = match text {
            "github" => Some(Forge::GitHub),
            "gitea" | "forgejo" => Some(Forge::Gitea),
            _ => None,
        };
        if found.is_none() {
            let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is no forge that is known"));
            reader.problem(diagnostic, node.span, "one of `github`, `gitea` and `forgejo`");
        }
        found
    });
    let server = match fields.get("server") {
        None => None,
        Some(node) => {
            let text = reader.text(node, "`server`")?;
            if let Err(rule) = server_address(text) {
                let message = format!("`{}` can't be the address of a forge", without_user(text));
                reader.problem(Diagnostic::error("bad-value", message), node.span, rule);
                return None;
            }
            Some(text.to_owned())
        }
    };
    if forge == Some(Forge::Gitea) && server.is_none() {
        let diagnostic = Diagnostic::error("missing-key", "`status` needs the key `server`");
        reader.problem(diagnostic, node.span, "the address of the forge, such as `https://git.example`");
        return None;
    }
    let project = reader.required(&fields, "project").and_then(|node| {
        let text = reader.text(node, "`project`")?;
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(word);
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => Some(text.to_owned()),
            _ => {
                let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is no project of a forge"));
                reader.problem(diagnostic, node.span, "write `OWNER/NAME`");
                None
            }
        }
    });
    let token = reader.required(&fields, "token").and_then(|node| parameter_name(reader, node, "`token`"));
    Some(StatusTarget { forge: forge?, server, project: project?, token: token? })
}

/// The name of a parameter that holds a secret.
fn parameter_name(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<String> {
    let name = reader.text(node, what)?;
    if !name.starts_with('/') {
        let diagnostic = Diagnostic::error("bad-value", "a secret names an SSM parameter, not a value")
            .help("store it with `aws ssm put-parameter --type SecureString --name /NAME`");
        reader.problem(diagnostic, node.span, "a parameter's name begins with `/`");
    }
    Some(name.to_owned())
}

/// The parameters with the secrets of webhooks: one, or two while one replaces the other.
fn webhook(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let nodes: Vec<&Node> = match node.items() {
        Some(items) => items.iter().collect(),
        None => vec![node],
    };
    if nodes.is_empty() || nodes.len() > 2 {
        let diagnostic = Diagnostic::error("out-of-range", "`webhook` names one parameter, or two");
        reader.problem(diagnostic, node.span, "two are for the time in which one replaces the other");
    }
    let mut names = Vec::new();
    for node in nodes {
        names.extend(parameter_name(reader, node, "`webhook`"));
    }
    names
}

/// A region that does not exist. New ones come now and then: the finding can be accepted.
fn unknown_region(reader: &mut Reader<'_>, node: &Node, region: &str) {
    let known: Vec<&str> = schema::all().regions().collect();
    if known.contains(&region) {
        return;
    }
    let message = format!("AWS has no region `{region}`, as far as this version knows");
    let label = suggest(region, known.iter().copied())
        .map_or_else(|| "regions are like `eu-west-1`".to_owned(), |near| format!("did you mean `{near}`?"));
    let help = "if it is newer than this version, add `# fleetwright: accept unknown-region` to the line";
    reader.problem(Diagnostic::error(UNKNOWN_REGION, message).help(help), node.span, label);
}

/// Removes the unknown regions among the problems from `first` on that somebody has accepted.
fn accepted(reader: &mut Reader<'_>, first: usize) {
    let all = reader.problems.split_off(first.min(reader.problems.len()));
    let (mut regions, rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|problem| problem.code == UNKNOWN_REGION);
    accept::apply(reader.file, &mut regions);
    reader.problems.extend(rest.into_iter().chain(regions));
}

/// An environment naming a cluster that is not there.
fn unknown_cluster(reader: &mut Reader<'_>, node: &Node, root: &Node) {
    let Some(Ok(name)) = node.text().map(str::parse::<ClusterName>) else { return };
    let entries = root.get("clusters").and_then(Node::entries).unwrap_or_default();
    let names: Vec<&str> = entries.iter().filter_map(|(key, _)| key.text()).collect();
    if names.contains(&name.as_str()) {
        return;
    }
    let diagnostic = Diagnostic::error("unknown-cluster", format!("there is no cluster `{name}`"));
    super::did_you_mean(reader, diagnostic, node.span, name.as_str(), &names, "`clusters`");
}
