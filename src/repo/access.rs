//! `access:` of `fleetwright.yaml` and of its environments: who has which level.

use super::decode::Reader;
use crate::model::access::{Level, Pattern, Policy};
use crate::source::{Diagnostic, Span};
use crate::yaml::Node;

/// The most that the parameter store takes in one parameter.
const LONGEST: usize = 4096;

/// Decodes an `access` section; `place` is its key.
pub fn decode(reader: &mut Reader<'_>, node: &Node, place: Span) -> Option<Policy> {
    let keys = Level::ALL.map(Level::word);
    let fields = reader.fields(node, place, "`access`", &keys)?;
    let mut policy = Policy::default();
    for level in Level::ALL.into_iter().rev() {
        let Some(list) = fields.get(level.word()) else { continue };
        for item in reader.items(list, &format!("`{level}`")) {
            let Some(pattern) = principal(reader, item, level) else { continue };
            match named_before(&policy, &pattern) {
                Some(before) => twice(reader, item, &pattern, before),
                None => policy.add(level, pattern),
            }
        }
    }
    let nobody = fields.get(Level::Admin.word()).is_none_or(|list| list.items().is_some_and(<[_]>::is_empty));
    if nobody {
        let message = "nobody has the level admin: tokens and removals will need the break-glass token";
        let diagnostic = Diagnostic::warning("no-admin", message)
            .help("name at least one role, such as `admin: [role/Administrators]`");
        reader.problem(diagnostic, place, "`admin` is missing or empty");
    }
    let length = policy.publish().len();
    if length > LONGEST {
        let message = format!("`access` is too long to be published: {length} bytes, and {LONGEST} fit");
        let diagnostic = Diagnostic::error("access-too-long", message)
            .help("name roles instead of users, or use `*` in names, such as `role/deploy-*`");
        reader.problem(diagnostic, place, "");
    }
    Some(policy)
}

fn principal(reader: &mut Reader<'_>, node: &Node, level: Level) -> Option<Pattern> {
    let text = reader.text(node, "a principal")?;
    if text.contains("${") {
        let diagnostic = Diagnostic::error("bad-access", "`access` can't use variables")
            .help("write the role or user itself: who has access is reviewed in the repository");
        reader.problem(diagnostic, node.span, "this depends on the environment of whoever runs `apply`");
        return None;
    }
    match text.parse::<Pattern>() {
        Ok(pattern) if level == Level::Admin && pattern.has_wildcard() => {
            let diagnostic =
                Diagnostic::error("admin-wildcard", format!("`{pattern}` can't have the level admin"))
                    .help("name each role and user in full, such as `role/Administrators`");
            reader.problem(
                diagnostic,
                node.span,
                "with a wildcard, whoever can create a role or user can become admin",
            );
            None
        }
        Ok(pattern) => Some(pattern),
        Err(bad) => {
            let diagnostic = Diagnostic::error("bad-access", format!("`{text}` matches no principal: {bad}"));
            reader.problem(diagnostic.help(bad.help(text)), node.span, "");
            None
        }
    }
}

/// The level that has the same pattern already; levels are read from the highest.
fn named_before(policy: &Policy, pattern: &Pattern) -> Option<Level> {
    Level::ALL.into_iter().rev().find(|level| policy.of(*level).contains(pattern))
}

fn twice(reader: &mut Reader<'_>, node: &Node, pattern: &Pattern, before: Level) {
    let diagnostic =
        Diagnostic::warning("duplicate-access", format!("`{pattern}` has the level {before} already"));
    reader.problem(diagnostic, node.span, "each level includes the ones below it: remove this");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;

    fn problems(text: &str) -> (Option<Policy>, Vec<String>) {
        let file = SourceFile::new("fleetwright.yaml", text);
        let mut problems = Vec::new();
        let node = crate::yaml::parse(&file, &mut problems).expect("YAML");
        let policy = decode(&mut Reader { file: &file, problems: &mut problems }, &node, node.span);
        (policy, problems.iter().map(|problem| problem.code.to_owned()).collect())
    }

    #[test]
    fn what_can_t_be_published_is_an_error() {
        let many = |count: usize| {
            let users: Vec<String> = (0..count).map(|n| format!("user/someone-{n:04}")).collect();
            format!("admin: [role/boss]\ndeployer: [{}]\n", users.join(", "))
        };
        assert_eq!(problems(&many(150)).1, Vec::<String>::new());
        assert_eq!(problems(&many(250)).1, ["access-too-long"]);
    }

    #[test]
    fn every_level_is_read() {
        let (policy, problems) =
            problems("admin: [role/boss]\ndeployer: [\"role/deploy-*\"]\nviewer: [\"*\"]\n");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            policy.expect("a policy").publish(),
            r#"{"version":1,"admin":["role/boss"],"deployer":["role/deploy-*"],"viewer":["*"]}"#
        );
    }
}
