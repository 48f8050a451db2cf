//! One service of a Compose file.

use super::emit::Value;
use super::{Converter, is_true, words};
use crate::model::duration::written;
use crate::yaml::Node;

mod mounts;

/// Keys without a counterpart, and what to do in their place.
const WITHOUT: &[(&str, &str)] = &[
    ("cgroup", "has no counterpart"),
    ("cgroup_parent", "has no counterpart"),
    ("container_name", "instances are called SERVICE@NUMBER; other services find it by the service's name"),
    ("credential_spec", "has no counterpart"),
    (
        "depends_on",
        "services start in any order, and in parallel: let it try again until what it needs answers",
    ),
    ("device_cgroup_rules", "has no counterpart"),
    ("devices", "has no counterpart: containers get no devices"),
    ("dns", "containers ask the engine's own name server"),
    ("dns_opt", "containers ask the engine's own name server"),
    ("dns_search", "containers ask the engine's own name server"),
    ("domainname", "has no counterpart; `hostname` may have dots"),
    ("external_links", "reach it by its name if it is a service of the same environment, or by its address"),
    ("extends", "is not followed: write the keys out"),
    ("gpus", "has no counterpart"),
    ("ipc", "has no counterpart"),
    ("isolation", "has no counterpart"),
    ("mac_address", "has no counterpart"),
    ("net", "all services of an environment share one network"),
    (
        "network_mode",
        "all services of an environment share one network; publish what the machine must reach with `ports`",
    ),
    ("oom_kill_disable", "has no counterpart"),
    ("oom_score_adj", "has no counterpart"),
    ("pid", "has no counterpart"),
    ("pids_limit", "has no counterpart; `ulimits: {nproc: N}` limits the processes of a user"),
    ("platform", "machines run what their architecture can: choose them with `placement`"),
    ("privileged", "has no counterpart: list what it needs in `cap_add`"),
    ("profiles", "give it `replicas: 0` in the environments that do not need it"),
    ("runtime", "has no counterpart"),
    ("security_opt", "has no counterpart"),
    ("shm_size", "mount a folder in memory: `tmpfs: {/dev/shm: {size: ...}}`"),
    ("stdin_open", "has no counterpart: services run without a terminal"),
    ("storage_opt", "has no counterpart"),
    ("tty", "has no counterpart: services run without a terminal"),
    ("userns_mode", "has no counterpart"),
    ("uts", "has no counterpart"),
    ("volume_driver", "use a volume of `type: nfs`, or one that is kept on a machine"),
    ("volumes_from", "name the same volume in both services; they then run on the same machine"),
];

/// The keys that [`convert`] reads.
const READ: &[&str] = &[
    "annotations",
    "build",
    "cap_add",
    "cap_drop",
    "command",
    "configs",
    "cpus",
    "deploy",
    "develop",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "labels",
    "links",
    "log_driver",
    "log_opt",
    "logging",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "networks",
    "ports",
    "pull_policy",
    "read_only",
    "restart",
    "scale",
    "secrets",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
];

/// The keys of a service of ours, in the order of its documentation.
pub fn convert(
    converter: &mut Converter<'_>,
    key: &Node,
    node: &Node,
    name: &str,
    ours: &str,
) -> Vec<(String, Value)> {
    let mut one = One { converter, node, at: format!("services.{name}"), ours, done: Vec::new() };
    one.image(key);
    one.scale();
    one.words("command");
    one.words("entrypoint");
    let secrets = one.environment();
    one.ports();
    one.health();
    one.resources();
    one.placement();
    one.restart();
    for (theirs, here) in [
        ("user", "user"),
        ("working_dir", "workdir"),
        ("hostname", "hostname"),
        ("stop_signal", "stop_signal"),
    ] {
        if let Some(text) = one.scalar(theirs) {
            one.set(here, Value::text(text));
        }
    }
    if let Some(time) = one.scalar("stop_grace_period") {
        one.duration("stop_grace_period", "stop_grace_period", &time);
    }
    for flag in ["read_only", "init"] {
        if one.node.get(flag).is_some_and(is_true) {
            one.set(flag, Value::plain(true));
        }
    }
    for list in ["cap_add", "cap_drop"] {
        let items = one.list(list);
        if !items.is_empty() {
            one.set(list, Value::texts(items));
        }
    }
    one.extra_hosts();
    one.map("labels", "labels");
    one.map("sysctls", "sysctls");
    one.ulimits();
    one.logging();
    one.mounts(secrets);
    one.links();
    one.rest();
    one.done
}

/// One service while it is converted.
struct One<'c, 'a> {
    converter: &'c mut Converter<'a>,
    node: &'c Node,
    /// Where it stands, such as `services.web`.
    at: String,
    ours: &'c str,
    done: Vec<(String, Value)>,
}

impl One<'_, '_> {
    fn set(&mut self, key: &str, value: Value) {
        self.done.push((key.to_owned(), value));
    }

    fn note(&mut self, node: &Node, key: &str, text: impl Into<String>) {
        let at = format!("{}.{key}", self.at);
        self.converter.note(node, &at, text);
    }

    fn text(&mut self, node: &Node, key: &str) -> String {
        let at = format!("{}.{key}", self.at);
        self.converter.text(node, &at)
    }

    fn scalar(&mut self, key: &str) -> Option<String> {
        let node = self.node.get(key)?;
        node.text()?;
        Some(self.text(node, key))
    }

    /// A list of texts, or the one text that stands in its place.
    fn list(&mut self, key: &str) -> Vec<String> {
        let Some(node) = self.node.get(key) else { return Vec::new() };
        match node.items() {
            Some(items) => items.iter().map(|item| self.text(item, key)).collect(),
            None => node.text().is_some().then(|| self.text(node, key)).into_iter().collect(),
        }
    }

    /// A mapping, or a list of `KEY=VALUE`. A key without a value has none.
    fn pairs(&mut self, key: &str) -> Vec<(Node, String, Option<String>)> {
        let Some(node) = self.node.get(key) else { return Vec::new() };
        if let Some(entries) = node.entries() {
            return entries
                .iter()
                .map(|(name, value)| {
                    let set = value.text().filter(|_| value.scalar() != Some(crate::yaml::Scalar::Null));
                    let text = set.map(|_| self.text(value, key));
                    (name.clone(), name.text().unwrap_or_default().to_owned(), text)
                })
                .collect();
        }
        let items = node.items().unwrap_or_default();
        items
            .iter()
            .map(|item| {
                let text = self.text(item, key);
                match text.split_once('=') {
                    Some((name, value)) => (item.clone(), name.to_owned(), Some(value.to_owned())),
                    None => (item.clone(), text, None),
                }
            })
            .collect()
    }

    fn map(&mut self, theirs: &str, ours: &str) {
        let pairs = self.pairs(theirs);
        if !pairs.is_empty() {
            let entries =
                pairs.into_iter().map(|(_, key, value)| (key, Value::text(value.unwrap_or_default())));
            self.set(ours, Value::Map(entries.collect()));
        }
    }

    fn duration(&mut self, theirs: &str, ours: &str, text: &str) {
        match words::duration(text) {
            Some(time) => self.set(ours, Value::plain(written(time))),
            None => {
                if let Some(node) = self.node.get(theirs).cloned() {
                    self.note(&node, theirs, format!("`{text}` is not a duration"));
                }
            }
        }
    }

    fn image(&mut self, key: &Node) {
        let built = self.node.get("build").cloned();
        let image = self.scalar("image");
        let own = |image: Option<String>, project: &str, ours: &str| {
            // An image of ours has neither a registry nor a tag.
            let name = image.unwrap_or_default();
            let name = name
                .rsplit_once(':')
                .filter(|(_, tag)| !tag.contains('/'))
                .map_or(name.as_str(), |(name, _)| name);
            let host =
                name.split('/').next().is_some_and(|first| first.contains(['.', ':']) && name.contains('/'));
            let name = if host { name.split_once('/').map_or("", |(_, rest)| rest) } else { name };
            if name.is_empty() { format!("{project}/{ours}") } else { name.to_lowercase() }
        };
        let value = match (&built, image) {
            (Some(build), image) => {
                let name = own(image, self.converter.project, self.ours);
                let context = build
                    .text()
                    .or_else(|| build.get("context").and_then(Node::text))
                    .unwrap_or(".")
                    .to_owned();
                self.note(
                    build,
                    "build",
                    format!("a pipeline builds it: add a step with `build: {{image: {name}, context: {context}}}` to pipelines/"),
                );
                name
            }
            (None, Some(image)) => {
                let (name, digest) = image
                    .split_once('@')
                    .map_or((image.as_str(), None), |(name, digest)| (name, Some(digest)));
                let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
                if tagged || digest.is_some() {
                    image
                } else {
                    self.note(
                        key,
                        "image",
                        format!("`{image}` has no tag, so Compose takes `latest`; name a version"),
                    );
                    format!("{image}:latest")
                }
            }
            (None, None) => {
                self.note(key, "image", "has neither `image` nor `build`; write one");
                format!("{}/{}", self.converter.project, self.ours)
            }
        };
        self.set("image", Value::text(value));
    }

    fn scale(&mut self) {
        let deploy = self.node.get("deploy").cloned();
        let mode = deploy.as_ref().and_then(|deploy| deploy.get("mode")).and_then(Node::text);
        if mode == Some("global") {
            self.set("every_machine", Value::plain(true));
            return;
        }
        let replicas =
            deploy.as_ref().and_then(|deploy| deploy.get("replicas")).or_else(|| self.node.get("scale"));
        if let Some(count) = replicas.and_then(Node::text).and_then(|text| text.parse::<u32>().ok()) {
            self.set("replicas", Value::plain(count));
        }
    }

    /// A command: a list, or a text that is split as a shell would.
    fn words(&mut self, key: &str) {
        let Some(node) = self.node.get(key).cloned() else { return };
        let list = match node.items() {
            Some(items) => items.iter().map(|item| self.text(item, key)).collect(),
            None => {
                let text = self.text(&node, key);
                match words::split(&text) {
                    Some(words) => words,
                    None => vec!["/bin/sh".to_owned(), "-c".to_owned(), text],
                }
            }
        };
        if !list.is_empty() {
            self.set(key, Value::texts(list));
        }
    }

    /// Variables; those that look like secrets become secrets, whose values are not copied.
    fn environment(&mut self) -> Vec<Value> {
        let (mut plain, mut secrets) = (Vec::new(), Vec::new());
        for (node, name, value) in self.pairs("environment") {
            let Some(value) = value else {
                self.note(
                    &node,
                    "environment",
                    format!("Compose takes `{name}` from the shell's environment; write its value"),
                );
                plain.push((name, Value::text("")));
                continue;
            };
            if words::is_secret(&name) && !value.is_empty() {
                let secret = format!("{}-{}", self.ours, name.to_lowercase().replace('_', "-"));
                self.note(
                    &node,
                    "environment",
                    format!("`{name}` looks like a secret, so its value was not copied: `fleetwright secret set {secret}`"),
                );
                self.converter.done.secrets.insert(secret.clone(), None);
                secrets.push(Value::Map(vec![
                    ("name".to_owned(), Value::text(secret)),
                    ("env".to_owned(), Value::text(name)),
                ]));
            } else {
                plain.push((name, Value::text(value)));
            }
        }
        if let Some(node) = self.node.get("env_file").cloned() {
            self.note(
                &node,
                "env_file",
                "files of variables are not read: write them to `env`, and what is secret to `secrets`",
            );
        }
        if !plain.is_empty() {
            self.set("env", Value::Map(plain));
        }
        secrets
    }

    fn ports(&mut self) {
        let Some(node) = self.node.get("ports").cloned() else { return };
        let mut ports = Vec::new();
        for item in node.items().unwrap_or_default() {
            if item.entries().is_some() {
                let text = |key: &str| item.get(key).and_then(Node::text).map(str::to_owned);
                let Some(target) = text("target") else { continue };
                let mut port = vec![("container".to_owned(), Value::plain(target))];
                if let Some(published) = text("published").filter(|text| !text.is_empty()) {
                    if published.contains('-') {
                        self.note(item, "ports", "a range of ports: the engine picks a free one");
                    } else {
                        port.push(("host".to_owned(), Value::plain(published)));
                    }
                }
                if let Some(protocol) = text("protocol").filter(|text| text == "udp") {
                    port.push(("protocol".to_owned(), Value::text(protocol)));
                }
                if text("host_ip").is_some() {
                    self.note(item, "ports", "ports are published on every address of the machine: its security group limits who reaches them");
                }
                ports.push(Value::Map(port));
                continue;
            }
            let text = self.text(item, "ports");
            let (body, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
            let parts: Vec<&str> = body.rsplitn(3, ':').collect();
            if parts.len() == 3 {
                self.note(item, "ports", "ports are published on every address of the machine: its security group limits who reaches them");
            }
            let (container, host) = (
                parts.first().copied().unwrap_or_default(),
                parts.get(1).copied().filter(|host| !host.is_empty()),
            );
            if container.contains('-') || host.is_some_and(|host| host.contains('-')) {
                self.note(item, "ports", format!("`{text}` is a range of ports: write each port"));
                continue;
            }
            let protocol = if protocol == "tcp" { String::new() } else { format!("/{protocol}") };
            ports.push(match host {
                Some(host) => Value::text(format!("{host}:{container}{protocol}")),
                None if protocol.is_empty() => Value::plain(container),
                None => Value::text(format!("{container}{protocol}")),
            });
        }
        if !ports.is_empty() {
            self.set("ports", Value::List(ports));
        }
    }

    fn health(&mut self) {
        let Some(node) = self.node.get("healthcheck").cloned() else { return };
        let off = node.get("disable").is_some_and(is_true);
        let Some(test) = node.get("test").filter(|_| !off).cloned() else {
            if !off {
                self.note(
                    &node,
                    "healthcheck",
                    "the image's own check is not used: write `health` with a command",
                );
            }
            return;
        };
        let shell = |line: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), line];
        let command = match test.items() {
            None => shell(self.text(&test, "healthcheck.test")),
            Some(items) => {
                let mut words: Vec<String> =
                    items.iter().map(|item| self.text(item, "healthcheck.test")).collect();
                match words.first().map(String::as_str) {
                    Some("CMD") => words.split_off(1),
                    Some("CMD-SHELL") => shell(words.split_off(1).join(" ")),
                    _ => return,
                }
            }
        };
        let mut health = vec![("command".to_owned(), Value::texts(command))];
        for key in ["interval", "timeout", "start_period"] {
            if let Some(time) = node.get(key).and_then(Node::text).and_then(words::duration) {
                health.push((key.to_owned(), Value::plain(written(time))));
            }
        }
        if let Some(retries) =
            node.get("retries").and_then(Node::text).and_then(|text| text.parse::<u32>().ok())
        {
            health.push(("retries".to_owned(), Value::plain(retries)));
        }
        self.set("health", Value::Map(health));
    }

    fn resources(&mut self) {
        let deploy = self.node.get("deploy").and_then(|deploy| deploy.get("resources")).cloned();
        let of = |kind: &str, key: &str| {
            deploy
                .as_ref()
                .and_then(|one| one.get(kind))
                .and_then(|one| one.get(key))
                .and_then(Node::text)
                .map(str::to_owned)
        };
        let own = |key: &str| self.node.get(key).and_then(Node::text).map(str::to_owned);
        let amounts = |memory: Option<String>, cpu: Option<String>| {
            let memory = memory
                .and_then(|text| words::size(&text))
                .map(|size| ("memory".to_owned(), Value::plain(size)));
            let cpu = cpu
                .and_then(|text| text.parse::<f64>().ok())
                .map(|cpus| ("cpu".to_owned(), Value::plain(cpus)));
            memory.into_iter().chain(cpu).collect::<Vec<_>>()
        };
        let limits = amounts(
            of("limits", "memory").or_else(|| own("mem_limit")),
            of("limits", "cpus").or_else(|| own("cpus")),
        );
        let kept = amounts(
            of("reservations", "memory").or_else(|| own("mem_reservation")),
            of("reservations", "cpus"),
        );
        let resources: Vec<_> = [("limits", limits), ("reservations", kept)]
            .into_iter()
            .filter(|(_, amounts)| !amounts.is_empty())
            .map(|(key, amounts)| (key.to_owned(), Value::Map(amounts)))
            .collect();
        if !resources.is_empty() {
            self.set("resources", Value::Map(resources));
        }
    }

    fn placement(&mut self) {
        let Some(deploy) = self.node.get("deploy").cloned() else { return };
        let placement = deploy.get("placement").cloned();
        let mut wanted = Vec::new();
        for item in placement
            .iter()
            .filter_map(|one| one.get("constraints"))
            .flat_map(|list| list.items().unwrap_or_default())
        {
            let text = self.text(item, "deploy.placement");
            let parts: Vec<&str> = text.splitn(2, "==").map(str::trim).collect();
            match parts.as_slice() {
                ["node.role", "manager"] => wanted.push(("role".to_owned(), Value::text("control"))),
                ["node.role", "worker"] => wanted.push(("role".to_owned(), Value::text("worker"))),
                [key, value] if key.starts_with("node.labels.") => {
                    wanted.push((key["node.labels.".len()..].to_owned(), Value::text(*value)));
                }
                _ => self.note(
                    item,
                    "deploy.placement",
                    format!("`{text}` has no counterpart; `placement` compares metadata of machines"),
                ),
            }
        }
        if !wanted.is_empty() {
            self.set("placement", Value::Map(wanted));
        }
        let most = placement.as_ref().and_then(|one| one.get("max_replicas_per_node")).and_then(Node::text);
        if let Some(most) = most.and_then(|text| text.parse::<u32>().ok()) {
            self.set("max_per_machine", Value::plain(most));
        }
        let spread =
            placement.as_ref().and_then(|one| one.get("preferences")).and_then(|list| list.items()?.first());
        if let Some(text) = spread.and_then(|item| item.get("spread")).and_then(Node::text)
            && let Some(key) = text.strip_prefix("node.labels.")
        {
            self.set("spread", Value::text(key));
        }
        let parallel =
            deploy.get("update_config").and_then(|one| one.get("parallelism")).and_then(Node::text);
        if let Some(parallel) = parallel.and_then(|text| text.parse::<u32>().ok()).filter(|count| *count > 0)
        {
            self.set("update", Value::Map(vec![("parallel".to_owned(), Value::plain(parallel))]));
        }
        for (key, text) in [
            (
                "labels",
                "labels of the service itself have no counterpart; `labels` beside `deploy` are the container's",
            ),
            ("rollback_config", "a failed rollout is undone automatically, at the pace of `update`"),
        ] {
            if let Some((key_node, _)) = deploy.entry(key) {
                let key_node = key_node.clone();
                self.note(&key_node, &format!("deploy.{key}"), text);
            }
        }
    }

    fn restart(&mut self) {
        let policy = self.node.get("deploy").and_then(|deploy| deploy.get("restart_policy")).cloned();
        if let Some(policy) = policy {
            let mut fields = Vec::new();
            if let Some(condition) = policy.get("condition").and_then(Node::text) {
                fields.push(("condition".to_owned(), Value::text(condition)));
            }
            for key in ["delay", "window"] {
                if let Some(time) = policy.get(key).and_then(Node::text).and_then(words::duration) {
                    fields.push((key.to_owned(), Value::plain(written(time))));
                }
            }
            if let Some(most) =
                policy.get("max_attempts").and_then(Node::text).and_then(|text| text.parse::<u32>().ok())
            {
                fields.push(("max_attempts".to_owned(), Value::plain(most)));
            }
            self.set("restart", Value::Map(fields));
            return;
        }
        let Some(text) = self.scalar("restart") else { return };
        match text.split_once(':').map_or((text.as_str(), None), |(word, most)| (word, Some(most))) {
            // What runs is always started again here.
            ("always" | "unless-stopped" | "any", _) => {}
            ("no" | "none" | "false", _) => self.set("restart", Value::text("none")),
            ("on-failure", most) => {
                let mut fields = vec![("condition".to_owned(), Value::text("on-failure"))];
                if let Some(most) = most.and_then(|text| text.parse::<u32>().ok()) {
                    fields.push(("max_attempts".to_owned(), Value::plain(most)));
                }
                self.set("restart", Value::Map(fields));
            }
            (other, _) => {
                if let Some(node) = self.node.get("restart").cloned() {
                    self.note(&node, "restart", format!("`{other}` is not a restart condition"));
                }
            }
        }
    }

    fn extra_hosts(&mut self) {
        let Some(node) = self.node.get("extra_hosts").cloned() else { return };
        let pairs: Vec<(Node, String, String)> = match node.entries() {
            Some(entries) => entries
                .iter()
                .map(|(key, value)| {
                    (
                        key.clone(),
                        key.text().unwrap_or_default().to_owned(),
                        value.text().unwrap_or_default().to_owned(),
                    )
                })
                .collect(),
            None => node
                .items()
                .unwrap_or_default()
                .iter()
                .filter_map(|item| {
                    let text = item.text()?;
                    let (name, address) = text.split_once('=').or_else(|| text.split_once(':'))?;
                    Some((item.clone(), name.to_owned(), address.trim_matches(['[', ']']).to_owned()))
                })
                .collect(),
        };
        let mut hosts = Vec::new();
        for (place, name, address) in pairs {
            if address.parse::<std::net::IpAddr>().is_ok() {
                hosts.push((name, Value::text(address)));
            } else {
                self.note(&place, "extra_hosts", format!("`{address}` is not an IP address"));
            }
        }
        if !hosts.is_empty() {
            self.set("extra_hosts", Value::Map(hosts));
        }
    }

    fn ulimits(&mut self) {
        let Some(node) = self.node.get("ulimits").cloned() else { return };
        let limits = node.entries().unwrap_or_default().iter().filter_map(|(key, value)| {
            let number = |node: &Node| node.text()?.parse::<i64>().ok();
            let limit = match value.entries() {
                Some(_) => Value::Map(vec![
                    ("soft".to_owned(), Value::plain(number(value.get("soft")?)?)),
                    ("hard".to_owned(), Value::plain(number(value.get("hard")?)?)),
                ]),
                None => Value::plain(number(value)?),
            };
            Some((key.text()?.to_owned(), limit))
        });
        let limits: Vec<_> = limits.collect();
        if !limits.is_empty() {
            self.set("ulimits", Value::Map(limits));
        }
    }

    fn logging(&mut self) {
        for key in ["log_driver", "log_opt"] {
            if let Some(node) = self.node.get(key).cloned() {
                self.note(&node, key, "write `logging: {max_size: 10MiB, max_files: 3}`; `fleetwright logs` reads what machines keep");
            }
        }
        let Some(node) = self.node.get("logging").cloned() else { return };
        if let Some(driver) =
            node.get("driver").and_then(Node::text).filter(|driver| !["json-file", "local"].contains(driver))
        {
            self.note(
                &node,
                "logging",
                format!(
                    "the driver `{driver}` has no counterpart; `fleetwright logs` reads what machines keep"
                ),
            );
        }
        let option = |key: &str| {
            node.get("options").and_then(|options| options.get(key)).and_then(Node::text).map(str::to_owned)
        };
        if let Some(size) = option("max-size").and_then(|text| words::size(&text)) {
            let mut limits = vec![("max_size".to_owned(), Value::plain(size))];
            if let Some(files) = option("max-file").and_then(|text| text.parse::<u32>().ok()) {
                limits.push(("max_files".to_owned(), Value::plain(files)));
            }
            self.set("logging", Value::Map(limits));
        }
    }

    fn links(&mut self) {
        for item in self.node.get("links").and_then(|node| node.items()).unwrap_or_default().to_vec() {
            let text = self.text(&item, "links");
            let (name, alias) = text.split_once(':').unwrap_or((&text, ""));
            let ours = self.converter.names.get(name).cloned().unwrap_or_else(|| words::name(name));
            let called = if alias.is_empty() { name } else { alias };
            if called != ours {
                self.note(
                    &item,
                    "links",
                    format!("the other service is reached as `{ours}`, not as `{called}`"),
                );
            }
        }
        for (key, value) in
            self.node.get("networks").and_then(|node| node.entries()).unwrap_or_default().to_vec()
        {
            if value.get("aliases").is_some() {
                self.note(
                    &key,
                    "networks",
                    format!("aliases have no counterpart: the service is reached as `{}`", self.ours),
                );
            }
        }
    }

    /// What is left.
    fn rest(&mut self) {
        for (key, value) in self.node.entries().unwrap_or_default().to_vec() {
            let name = key.text().unwrap_or_default();
            let off = value.text() == Some("false");
            match WITHOUT.iter().find(|(without, _)| *without == name) {
                Some(_) if off => {}
                Some((_, text)) => self.note(&key, name, *text),
                None if READ.contains(&name) || name.starts_with("x-") => {}
                None => self.note(&key, name, "has no counterpart"),
            }
        }
    }
}

/// Whether a key is read.
#[cfg(test)]
pub fn reads(key: &str) -> bool {
    READ.contains(&key)
}
