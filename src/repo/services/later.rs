//! `${stack.Output}` and `${ssm:NAME}` in the variables of services and jobs.
//!
//! Any other `${...}` is left as it is: a shell or the program itself may be meant to read it. For the same reason
//! `${a.B}` is a reference only where the repository has a stack `a`.

use std::collections::BTreeMap;

use super::variables;
use crate::model::later::{LaterFor, LaterVariable};
use crate::model::role::{AwsRole, BadRole, OTHER_CREDENTIALS, ROLE_PORT};
use crate::model::stack::{ParameterValue, Piece, Reference};
use crate::repo::decode::Reader;
use crate::source::Diagnostic;
use crate::yaml::Node;

/// What a reference to a parameter begins with.
const PARAMETER: &str = "ssm:";

/// The most characters that the name of a parameter has.
/// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html>
const NAME_MOST: usize = 1011;

/// The variables of a service or job, and those of them whose values are looked up when it is deployed: until then
/// such a variable has its references as its value. `stacks` are the names of the repository's stacks.
pub fn environment(
    reader: &mut Reader<'_>,
    node: &Node,
    stacks: &[&str],
) -> (BTreeMap<String, String>, Vec<LaterVariable>) {
    let mut environment = variables(reader, node, "`env`");
    let mut later = Vec::new();
    for (key, node) in node.entries().unwrap_or_default() {
        let (Some(name), Some(text)) = (key.text(), node.text()) else { continue };
        if !text.contains("${") {
            continue;
        }
        let pieces = pieces(reader, node, text, stacks);
        let value = ParameterValue { pieces };
        environment.insert(name.to_owned(), value.to_string());
        if value.literal().is_none() {
            let of = LaterFor::Variable(name.to_owned());
            later.push(LaterVariable { of, value, place: reader.place(node) });
        }
    }
    (environment, later)
}

/// The role of the containers of a service or job, which may be looked up when it is deployed. `variables` are its own.
pub fn role(
    reader: &mut Reader<'_>,
    node: &Node,
    variables: Option<&Node>,
    stacks: &[&str],
) -> Option<(String, Option<LaterVariable>)> {
    let text = reader.text(node, "`aws_role`")?;
    for (key, _) in variables.and_then(Node::entries).unwrap_or_default() {
        let Some(name) = key.text().filter(|name| OTHER_CREDENTIALS.contains(name)) else { continue };
        let message = format!("`{name}` gives the AWS SDKs other credentials than those of `aws_role`");
        reader.problem(Diagnostic::error("conflicting-keys", message), key.span, "remove one of them");
    }
    let value = ParameterValue { pieces: pieces(reader, node, text, stacks) };
    if value.literal().is_none() {
        let later = LaterVariable { of: LaterFor::AwsRole, value: value.clone(), place: reader.place(node) };
        return Some((value.to_string(), Some(later)));
    }
    match text.parse::<AwsRole>() {
        Ok(role) => Some((role.to_string(), None)),
        Err(error) => {
            let diagnostic = Diagnostic::error("bad-value", error.to_string());
            reader.problem(diagnostic.help(BadRole::HELP), node.span, "");
            None
        }
    }
}

/// Reports a port of a container with a role that its credentials need.
pub fn taken(reader: &mut Reader<'_>, ports: &Node) {
    let message = format!("port {ROLE_PORT} of a container with `aws_role` is that of its credentials");
    reader.problem(Diagnostic::error("conflicting-keys", message), ports.span, "use another port");
}

/// What `inner`, the text between `${` and `}`, refers to.
fn reference(inner: &str, stacks: &[&str]) -> Option<Piece> {
    if let Some(name) = inner.strip_prefix(PARAMETER) {
        return Some(Piece::Public(name.to_owned()));
    }
    let (stack, output) = inner.split_once('.')?;
    let is_output = !output.is_empty() && output.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_output || !stacks.contains(&stack) {
        return None;
    }
    Some(Piece::Output(Reference { stack: stack.parse().ok()?, output: output.to_owned() }))
}

fn pieces(reader: &mut Reader<'_>, node: &Node, text: &str, stacks: &[&str]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let found = after.split_once('}').and_then(|(inner, after)| Some((reference(inner, stacks)?, after)));
        let Some((piece, after)) = found else {
            plain.push_str(before);
            plain.push_str("${");
            rest = after;
            continue;
        };
        rest = after;
        if let Some(before) = before.strip_suffix('$') {
            plain.push_str(before);
            plain.push_str(&ParameterValue { pieces: vec![piece] }.to_string());
            continue;
        }
        if let Piece::Public(name) = &piece {
            check_name(reader, node, name);
        }
        plain.push_str(before);
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(piece);
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}

/// Reports what can't be the name of a parameter.
fn check_name(reader: &mut Reader<'_>, node: &Node, name: &str) {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-');
    let is_path = name.starts_with('/') && !name.ends_with('/') && !name.contains("//");
    if name.len() <= NAME_MOST
        && name.bytes().all(legal)
        && (is_path || !name.contains('/'))
        && !name.is_empty()
    {
        return;
    }
    let diagnostic = Diagnostic::error("bad-reference", format!("`{name}` is not the name of a parameter"));
    let help =
        "write `${ssm:/path/of/parameter}`, with letters, digits and `/._-`; `$${ssm:...}` is a plain text";
    let reference = format!("${{{PARAMETER}{name}}}");
    let span = crate::repo::interpolate::part_of(reader.file, node, &reference);
    reader.problem(diagnostic.help(help), span, "");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;

    /// The value of `V: "TEXT"` with its pieces between bars, then the codes of problems.
    fn read(text: &str) -> String {
        let file = SourceFile::new("services/web.yaml", format!("V: \"{text}\""));
        let mut problems = Vec::new();
        let node = crate::yaml::parse(&file, &mut problems).expect("it is YAML");
        let mut reader = Reader { file: &file, problems: &mut problems };
        let (environment, later) = environment(&mut reader, &node, &["data", "web-2"]);
        let pieces: Vec<String> = match later.first() {
            Some(later) => later.value.pieces.iter().map(ToString::to_string).collect(),
            None => vec![environment["V"].clone()],
        };
        let codes: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
        format!("{} {} {}", later.len(), pieces.join("|"), codes.join(",")).trim_end().to_owned()
    }

    /// What becomes of the role of a service with these keys: its text, `later` where it is looked up, and the messages
    /// of problems.
    fn role_of(keys: &str) -> (Option<String>, bool, Vec<String>) {
        let file = SourceFile::new("services/web.yaml", format!("web:\n  image: shop/web\n{keys}"));
        let mut problems = Vec::new();
        let node = crate::yaml::parse(&file, &mut problems).expect("it is YAML");
        let mut reader = Reader { file: &file, problems: &mut problems };
        let scope = super::super::Scope { environments: &[], stacks: &["data"] };
        let services = super::super::decode(&mut reader, &node, scope);
        let wanted = services.into_iter().next().map(|service| service.wanted);
        let later =
            wanted.as_ref().is_some_and(|wanted| wanted.later.iter().any(|one| one.of == LaterFor::AwsRole));
        let role = wanted.and_then(|wanted| wanted.spec.container.aws_role);
        (role, later, problems.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn a_role_is_a_name_an_arn_or_what_a_stack_gives() {
        let arn = "arn:aws:iam::123456789012:role/fleetwright/shop/prod/web";
        assert_eq!(role_of("  aws_role: uploads\n"), (Some("uploads".into()), false, vec![]));
        assert_eq!(role_of(&format!("  aws_role: {arn}\n")), (Some(arn.into()), false, vec![]));
        assert_eq!(
            role_of("  aws_role: \"${data.RoleArn}\"\n"),
            (Some("${data.RoleArn}".into()), true, vec![])
        );
        for (keys, problem) in [
            ("  aws_role: team/web\n", "`team/web` is not a role: a name has no path; give the ARN"),
            ("  aws_role: \"${nothing.RoleArn}\"\n", "a name has up to 64"),
            ("  aws_role: [a]\n", "`aws_role`"),
            ("  aws_role: a\n  env: {AWS_ACCESS_KEY_ID: x}\n", "gives the AWS SDKs other credentials"),
            ("  aws_role: a\n  ports: [7446]\n", "port 7446 of a container with `aws_role`"),
        ] {
            let (_, _, problems) = role_of(keys);
            assert!(matches!(&problems[..], [one] if one.contains(problem)), "{keys}{problems:?}");
        }
        assert_eq!(role_of("  env: {AWS_ACCESS_KEY_ID: x}\n  ports: [7446]\n").2, Vec::<String>::new());
    }

    #[test]
    fn outputs_and_parameters_are_references_and_everything_else_is_text() {
        assert_eq!(read("plain"), "0 plain");
        assert_eq!(read("${data.Endpoint}"), "1 ${data.Endpoint}");
        assert_eq!(read("a ${web-2.Url}/${ssm:/shop/x} b"), "1 a |${web-2.Url}|/|${ssm:/shop/x}| b");
        for left in ["${HOME}", "${db.url}", "${data.sub.X}", "${data.}", "${data", "$${HOME}", "${}"] {
            assert_eq!(read(left), format!("0 {left}"));
        }
        assert_eq!(read("$${data.Endpoint} ${HOME}"), "0 ${data.Endpoint} ${HOME}");
        assert_eq!(read("$${data.X} ${data.X}"), "1 ${data.X} |${data.X}");
        for bad in ["${ssm:}", "${ssm:/a//b}", "${ssm:a/b}", "${ssm:/a b}", "${ssm:/a/}"] {
            assert!(read(bad).ends_with(" bad-reference"), "{bad}");
        }
    }
}
