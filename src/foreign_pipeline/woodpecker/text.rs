//! Texts of a workflow, in which Woodpecker fills variables in before it reads them.

use super::Reader;
use crate::foreign_pipeline::shell::{self, Known, Variable};
use crate::foreign_pipeline::tagged;
use crate::yaml::Node;

fn known(name: &str) -> Option<Known> {
    Some(match name {
        "CI_COMMIT_SHA" => Known::Same("FLEETWRIGHT_COMMIT"),
        "CI_COMMIT_BRANCH" => Known::Same("FLEETWRIGHT_BRANCH"),
        "CI_COMMIT_TAG" => Known::Same("FLEETWRIGHT_TAG"),
        "CI_COMMIT_REF" => Known::Same("FLEETWRIGHT_REF"),
        "CI_COMMIT_PULL_REQUEST" => Known::Same("FLEETWRIGHT_PULL_REQUEST"),
        "CI_PIPELINE_NUMBER" => Known::Same("FLEETWRIGHT_RUN"),
        "CI_WORKFLOW_NAME" => Known::Same("FLEETWRIGHT_PIPELINE"),
        "CI_WORKSPACE" => Known::Fixed("/workspace"),
        "CI_PIPELINE_EVENT" => Known::Nothing(
            "use `$FLEETWRIGHT_TRIGGER`, which is `poll` for a push, or `tag`, `pull-request`, `schedule`, `hand` or `pipeline`",
        ),
        "CI_PIPELINE_STATUS" => Known::Nothing("use `$FLEETWRIGHT_RESULT`, which is `succeeded` or `failed`"),
        name if name.starts_with("CI_") => Known::Nothing("write its value, or remove it"),
        _ => return None,
    })
}

impl Reader<'_, '_> {
    /// A command for a shell. What can't be written makes the step a comment.
    pub(super) fn command(&mut self, node: &Node) -> String {
        let text = node.text().unwrap_or_default();
        let mut done = String::new();
        let mut from = 0;
        for variable in shell::variables(text) {
            let between = &text[from..variable.start];
            // `$$` is Woodpecker's way to write `$`.
            let dollars = between.len() - between.trim_end_matches('$').len();
            let escaped = dollars % 2 == 1;
            let between = if escaped { &between[..between.len() - 1] } else { between };
            done.push_str(&between.replace("$$", "$"));
            from = variable.end;
            let ours = match variable.braced && !escaped {
                true => self.filled(node, text, &variable),
                false => self.expanded(node, text, &variable),
            };
            let is_new =
                variable.braced && !escaped && ours.starts_with('$') && !ours.starts_with("${matrix.");
            match is_new && variable.quoted {
                true => from += shell::unquote(&mut done, &ours, &text[from..]),
                false => done.push_str(&ours),
            }
        }
        done.push_str(&text[from..].replace("$$", "$"));
        if shell::runs_git(&done) && self.rewritten.insert("git".to_owned()) {
            self.notes.add(
                self.notes.place(node.span, "git"),
                "the workspace has no `.git`, so that git finds no repository",
                "use `$FLEETWRIGHT_COMMIT`, `$FLEETWRIGHT_BRANCH` or `$FLEETWRIGHT_TAG`, or clone it",
            );
        }
        done
    }

    /// A variable that the shell expands.
    fn expanded(&mut self, node: &Node, text: &str, variable: &Variable<'_>) -> String {
        let written = &text[variable.start..variable.end];
        match known(variable.name) {
            Some(Known::Same(ours)) => {
                self.same(node, variable.name, ours);
                written.replacen(variable.name, ours, 1)
            }
            Some(Known::Fixed(value)) if variable.operator.is_empty() && !variable.quoted => value.to_owned(),
            Some(Known::Fixed(_)) => {
                self.nothing(node, variable.name, "write `/workspace`");
                written.to_owned()
            }
            Some(Known::Nothing(next)) => {
                self.nothing(node, variable.name, next);
                written.to_owned()
            }
            None => written.to_owned(),
        }
    }

    /// A variable that Woodpecker fills in before a shell sees it.
    fn filled(&mut self, node: &Node, text: &str, variable: &Variable<'_>) -> String {
        let written = &text[variable.start..variable.end];
        let (name, operator) = (variable.name, variable.operator);
        let is_matrix = self.matrix.iter().any(|(known, _)| known == name);
        if is_matrix && operator.is_empty() {
            return format!("${{matrix.{name}}}");
        }
        let ours = match known(name) {
            Some(Known::Same(ours)) => {
                self.same(node, name, ours);
                ours
            }
            Some(Known::Fixed(value)) if operator.is_empty() => return value.to_owned(),
            Some(Known::Fixed(_)) => {
                self.nothing(node, name, "write `/workspace`");
                return written.to_owned();
            }
            Some(Known::Nothing(next)) => {
                self.nothing(node, name, next);
                return written.to_owned();
            }
            None if is_matrix => name,
            None => {
                let message = format!("Woodpecker fills `{written}` in before a shell sees it");
                let next =
                    format!("write its value, or `$$${{{name}}}` in the workflow if the shell is meant");
                self.notes.add(self.notes.place(node.span, written), message, next);
                self.off(format!("`{written}` in a command"));
                return written.to_owned();
            }
        };
        // What a POSIX shell does alike.
        let alike =
            ["##", "%%", "#", "%", ":-", "-", ":+", "+"].iter().any(|known| operator.starts_with(known));
        let first: Option<usize> = operator.strip_prefix(":0:").and_then(|length| length.parse().ok());
        match first {
            _ if operator.is_empty() || alike => format!("${{{ours}{operator}}}"),
            Some(length) => format!("$(printf %.{length}s \"${ours}\")"),
            None => {
                self.notes.add(
                    self.notes.place(node.span, written),
                    format!("`{written}` is an operation that `/bin/sh` does not have"),
                    format!("write it with `cut` or `sed` of `${ours}`"),
                );
                self.off(format!("`{written}` in a command"));
                written.to_owned()
            }
        }
    }

    fn same(&mut self, node: &Node, name: &str, ours: &str) {
        if self.rewritten.insert(name.to_owned()) {
            let unlike = if name == "CI_COMMIT_BRANCH" { ", but not set for pull requests" } else { "" };
            self.notes.add(
                self.notes.place(node.span, name),
                format!("`{name}` is `{ours}` here{unlike}; commands are rewritten"),
                format!("change scripts of the repository that read `{name}`"),
            );
        }
    }

    fn nothing(&mut self, node: &Node, name: &str, next: &str) {
        self.notes.add(self.notes.place(node.span, name), format!("`{name}` has no equivalent"), next);
        self.off(format!("`{name}` in a command"));
    }

    /// The value of a variable: in `env` nothing but the matrix is filled in.
    pub(super) fn value(&mut self, name: &str, node: &Node) -> Option<String> {
        match self.plain(node) {
            Ok(value) => Some(value),
            Err(written) => {
                self.notes.add(
                    self.notes.place(node.span, &written),
                    format!("nothing is filled in in `env`, and `{name}` has `{written}`"),
                    format!("set it in the command, as in `export {name}=...`, with the variables of a run"),
                );
                self.off(format!("`{written}` in `environment`"));
                None
            }
        }
    }

    /// A text that no shell sees.
    ///
    /// # Errors
    /// The variable that can't be filled in.
    pub(super) fn plain(&self, node: &Node) -> Result<String, String> {
        let text = node.text().unwrap_or_default();
        let mut done = String::new();
        let mut from = 0;
        while let Some(at) = text[from..].find("${") {
            let start = from + at;
            done.push_str(&text[from..start].replace("$$", "$"));
            let end = text[start..].find('}').map_or(text.len(), |end| start + end + 1);
            let written = &text[start..end];
            if text[..start].ends_with('$') && done.ends_with('$') {
                done.push_str(&written[1..]);
                from = end;
                continue;
            }
            let name = written.trim_start_matches("${").trim_end_matches('}');
            if !self.matrix.iter().any(|(known, _)| known == name) {
                return Err(written.to_owned());
            }
            done.push_str(&format!("${{matrix.{name}}}"));
            from = end;
        }
        done.push_str(&text[from..].replace("$$", "$"));
        Ok(done)
    }

    /// An image. Without a tag and a registry it would be one of the environment's own, so it gets the tag that
    /// Woodpecker pulls.
    ///
    /// # Errors
    /// Why it can't be used.
    pub(super) fn image(&mut self, node: &Node) -> Result<String, String> {
        let image = self.plain(node).map_err(|written| {
            self.notes.add(
                self.notes.place(node.span, &written),
                format!("`{written}` in the name of an image"),
                "write its value: only the matrix is filled in",
            );
            format!("`{written}` in its image")
        })?;
        if let Some(name) = image.strip_prefix("${matrix.").and_then(|rest| rest.strip_suffix('}')) {
            let values = self.matrix.iter().find(|(known, _)| known == name).map(|(_, values)| values);
            let bare = values.into_iter().flatten().any(|value| !value.contains([':', '@']));
            if bare {
                self.notes.add(
                    node.span,
                    format!(
                        "`{name}` names images without a tag, which are those of the environment's registry"
                    ),
                    "write a tag for each, such as `:latest`",
                );
                return Err("images without a tag in its matrix".to_owned());
            }
            return Ok(image);
        }
        let filled = |own: &str, value: &str| {
            self.matrix.iter().fold(image.clone(), |image, (name, values)| {
                let value = if name == own { value } else { values.first().map_or("", String::as_str) };
                image.replace(&format!("${{matrix.{name}}}"), value)
            })
        };
        let each =
            self.matrix.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let bad = each.map(|(name, value)| filled(name, value)).find(|image| tagged(image).is_none());
        let image = bad.unwrap_or(image);
        tagged(&image).ok_or_else(|| {
            self.notes.add(node.span, format!("`{image}` is not the name of an image"), "name one");
            "its image".to_owned()
        })
    }

    /// Makes the step that is read a comment.
    pub(super) fn off(&mut self, why: String) {
        self.why.get_or_insert(why);
    }
}
