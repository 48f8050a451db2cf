//! Plugins: images with settings instead of commands. The one that builds images has an equivalent.

use super::{Parsed, Reader, merged, missing, texts};
use crate::foreign_pipeline::draft::Step;
use crate::foreign_pipeline::emit::Value;
use crate::yaml::Node;

/// Settings that the environment's registry replaces.
const LOGIN: [&str; 5] = ["username", "password", "registry", "logins", "email"];

impl Reader<'_, '_> {
    pub(super) fn plugin(&mut self, parsed: &Parsed) -> Step {
        let image = parsed.get("image").and_then(Node::text).unwrap_or_default();
        let bare =
            image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(image, |(bare, _)| bare);
        if bare.ends_with("/plugin-docker-buildx") || bare.ends_with("/docker-buildx") {
            return self.build(parsed);
        }
        let line = self.notes.line(parsed.span);
        let span = parsed.get("image").map_or(parsed.span, |image| image.span);
        let message = match image {
            "" => "the step has no image".to_owned(),
            image => format!("plugin `{image}` has no equivalent"),
        };
        let next = "write a step with the command that the plugin runs; its settings are variables that begin with `PLUGIN_`";
        self.notes.add(span, message, next);
        missing(&parsed.name, line, "it is a plugin")
    }

    fn build(&mut self, parsed: &Parsed) -> Step {
        let mut step = Step::new("build");
        self.named(&mut step, parsed);
        let settings = parsed.get("settings").map(merged).unwrap_or_default();
        let get = |names: &[&str]| {
            settings.iter().find(|(key, _)| key.text().is_some_and(|text| names.contains(&text)))
        };
        let (mut context, mut dockerfile) = (".".to_owned(), "Dockerfile".to_owned());
        for (key, into) in [("context", &mut context), ("dockerfile", &mut dockerfile)] {
            if let Some((_, node)) = get(&[key]) {
                match self.plain(node) {
                    Ok(text) => *into = text.trim_start_matches("./").trim_end_matches('/').to_owned(),
                    Err(written) => {
                        self.notes.add(node.span, format!("`{written}` in `{key}`"), "write its value");
                        self.off(format!("`{written}` in `{key}`"));
                    }
                }
            }
        }
        if context.is_empty() {
            context = ".".to_owned();
        }
        match get(&["repo"]) {
            Some((_, node)) => self.repo(&mut step, node),
            None => {
                self.notes.add(parsed.span, "the plugin has no `repo`", "name the image");
                self.off("it names no image".to_owned());
            }
        }
        // The plugin's Dockerfile is relative to the repository, ours to the context.
        if context != "." {
            match dockerfile.strip_prefix(&format!("{context}/")) {
                Some(inside) => dockerfile = inside.to_owned(),
                None => {
                    let span = get(&["context"]).map_or(parsed.span, |(_, node)| node.span);
                    self.notes.add(
                        span,
                        format!("the Dockerfile `{dockerfile}` is not in the context `{context}`"),
                        "move it there: `dockerfile` is relative to `context`",
                    );
                    self.off("its Dockerfile is outside its context".to_owned());
                }
            }
            step.set("context", Value::Text(context));
        }
        if dockerfile != "Dockerfile" {
            step.set("dockerfile", Value::Text(dockerfile));
        }
        if let Some((_, node)) = get(&["target"]) {
            match self.plain(node) {
                Ok(target) => step.set("target", Value::Text(target)),
                Err(written) => self.off(format!("`{written}` in `target`")),
            }
        }
        if let Some((_, node)) = get(&["build_args"]) {
            self.args(&mut step, node);
        }
        if self.is_product && !self.matrix.is_empty() {
            let values =
                self.matrix.iter().map(|(name, values)| (name.clone(), Value::texts(values.clone())));
            step.set("matrix", Value::Map(values.collect()));
        }
        self.other_settings(&settings);
        if let Some(node) = parsed.get("environment") {
            self.notes.add(
                node.span,
                "`environment` of a plugin has no equivalent",
                "write what the Dockerfile needs into `args`",
            );
        }
        self.rest(parsed);
        step
    }

    fn repo(&mut self, step: &mut Step, node: &Node) {
        let repos: Vec<&Node> = texts(node);
        let text = match repos.as_slice() {
            [one] if !one.text().unwrap_or_default().contains(',') => self.plain(one),
            _ => Err(node.text().unwrap_or("several").to_owned()),
        };
        let image = match text {
            Ok(image) => image,
            Err(written) => {
                self.notes.add(
                    node.span,
                    format!("`{written}` does not name one image"),
                    "write one name, such as `team/web`",
                );
                self.off("the name of its image".to_owned());
                step.set("image", Value::Text(written));
                return;
            }
        };
        let (host, image) = match image.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                (Some(host), rest.to_owned())
            }
            _ => (None, image),
        };
        let image = image.to_lowercase();
        let place = match host {
            Some(host) => format!(
                "`registry.push` of the environment in fleetwright.yaml is where it is pushed to: set it to `{host}`, or leave it"
            ),
            None => {
                "`registry.push` of the environment in fleetwright.yaml is where it is pushed to".to_owned()
            }
        };
        self.notes.add(
            node.span,
            format!("`{image}` is pushed to the environment's registry, with a tag of ours"),
            place,
        );
        step.set("image", Value::Text(image));
    }

    fn args(&mut self, step: &mut Step, node: &Node) {
        let mut args = Vec::new();
        let (plain, secrets) = match node.text() {
            // A text has commas between them.
            Some(_) => match self.plain(node) {
                Ok(text) => {
                    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                    (
                        pairs.map(|(name, value)| (name.trim().to_owned(), value.to_owned())).collect(),
                        Vec::new(),
                    )
                }
                Err(written) => {
                    self.notes.add(node.span, format!("`{written}` in `build_args`"), "write its value");
                    self.off(format!("`{written}` in `build_args`"));
                    Default::default()
                }
            },
            None => self.environment(node),
        };
        args.extend(plain);
        if !secrets.is_empty() {
            self.notes.add(
                node.span,
                "a build argument is no place for a secret: it stays in the image",
                "write `secrets` of the step, and `RUN --mount=type=secret` in the Dockerfile",
            );
            self.off("a secret in `build_args`".to_owned());
        }
        if !args.is_empty() {
            step.set("args", Value::pairs(args));
        }
    }

    fn other_settings(&mut self, settings: &[(Node, Node)]) {
        for (key, value) in settings {
            let name = key.text().unwrap_or_default().replace('-', "_");
            let next = match name.as_str() {
                "repo" | "dockerfile" | "context" | "target" | "build_args" => continue,
                name if LOGIN.contains(&name) => {
                    "set `registry.push_credentials` of the environment in fleetwright.yaml"
                }
                "tag" | "tags" | "auto_tag" | "default_tag" | "tags_file" => {
                    "remove it: a rollout uses the digest of what was built"
                }
                "dry_run" | "output" if value.text() == Some("false") => continue,
                "dry_run" | "output" | "build_args_from_env" | "secrets" | "env_file" => {
                    self.off(format!("its setting `{name}`"));
                    "write it in another way: a `build` step pushes what it builds, and reads nothing else"
                }
                "platforms" => "remove it: images are built for the platform of the machine that builds them",
                _ => "remove it, or say it in the Dockerfile",
            };
            self.notes.add(key.span, format!("setting `{name}` has no equivalent"), next);
        }
    }
}
