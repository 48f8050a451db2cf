//! `--set-secret`: values of `NoEcho` parameters, which never stand in an argument.
//!
//! The arguments of a process can be read by everybody on its machine, so an argument only names where a value
//! comes from: an environment variable, a file, stdin, or the terminal, which does not show it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::failure::Failure;
use crate::driver::plan::{Found, Wanted};
use crate::model::parameter::VALUE_MOST;
use crate::model::secret::Secret;
use crate::plan::secret::{GivenSecret, missing, planned};
use crate::plan::stack::{StackAction, StackPlan};
use crate::source::read;

/// The most bytes that are read: a value with a line end behind it.
const MOST: u64 = VALUE_MOST as u64 + 2;

/// The option, for `plan` and `apply`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SecretArgs {
    /// Set a `NoEcho` parameter, whose deployed value can't be compared: `STACK.PARAMETER=env:NAME`, `=file:PATH`,
    /// `=-` (stdin), or without `=`, which asks on the terminal. Never write the value itself
    #[arg(long = "set-secret", value_name = "STACK.PARAMETER[=SOURCE]")]
    set_secret: Vec<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An environment variable.
    Variable(String),
    /// A file.
    File(PathBuf),
    /// The standard input.
    Stdin,
    /// A person, who is asked.
    Terminal,
}

impl SecretArgs {
    /// Reads the values.
    ///
    /// # Errors
    /// When an argument is not one, or a value can't be read.
    pub fn read(&self) -> Result<Vec<GivenSecret>, Failure> {
        let mut given: Vec<GivenSecret> = Vec::new();
        let mut stdin = false;
        for argument in &self.set_secret {
            let (stack, parameter, source) = parsed(argument)?;
            if given.iter().any(|other| other.stack == stack && other.parameter == parameter) {
                return Err(Failure::usage(
                    format!("`--set-secret {stack}.{parameter}` is given twice"),
                    "give it once",
                ));
            }
            if source == Source::Stdin && std::mem::replace(&mut stdin, true) {
                return Err(Failure::usage(
                    "stdin holds one value, and two are to be read from it",
                    "read the others from `env:NAME` or `file:PATH`",
                ));
            }
            let sources = "name where it comes from: `=env:NAME`, `=file:PATH`, or `=-` for stdin";
            let text = value(&format!("{stack}.{parameter}"), &source, MOST, sources)?;
            given.push(GivenSecret { stack, parameter, value: Secret::new(text) });
        }
        Ok(given)
    }
}

fn parsed(argument: &str) -> Result<(String, String, Source), Failure> {
    let (name, source) = match argument.split_once('=') {
        Some((name, source)) => (name, Some(source)),
        None => (argument, None),
    };
    // What stands behind the `=` may be a secret that somebody wrote there, so no message shows it.
    let named = name.split_once('.').filter(|(stack, parameter)| !stack.is_empty() && !parameter.is_empty());
    let Some((stack, parameter)) = named else {
        return Err(Failure::usage(
            format!("`--set-secret {name}` names no parameter of a stack"),
            "write `--set-secret STACK.PARAMETER`, for example `--set-secret db.Password=env:DB_PASSWORD`",
        ));
    };
    let source = match source {
        None => Some(Source::Terminal),
        Some("-") => Some(Source::Stdin),
        Some(source) => match source.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Some(Source::Variable(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Some(Source::File(path.into())),
            _ => None,
        },
    };
    let Some(source) = source else {
        return Err(Failure::usage(
            format!(
                "`--set-secret {name}=...` does not name a source; what stands there is not shown here, since it may be the secret"
            ),
            format!(
                "write `{name}=env:NAME`, `{name}=file:PATH`, `{name}=-` for stdin, or `{name}` to be asked. \
                 Arguments can be read by everybody on this machine: if that was the secret, change it"
            ),
        ));
    };
    Ok((stack.to_owned(), parameter.to_owned(), source))
}

/// Reads the value of what is called `name`, of at most `most` bytes. `sources` says what other sources there are.
///
/// # Errors
/// When it can't be read, or holds nothing.
pub fn value(name: &str, source: &Source, most: u64, sources: &str) -> Result<String, Failure> {
    let failed = |what: String, next: &str| {
        Err(Failure::usage(format!("reading the value of `{name}`: {what}"), next))
    };
    let (text, from) = match source {
        Source::Variable(name) => match std::env::var(name) {
            Ok(text) => (text, format!("the environment variable `{name}`")),
            Err(std::env::VarError::NotPresent) => {
                return failed(
                    format!("the environment variable `{name}` is not set"),
                    "set it, and export it",
                );
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                return failed(format!("the environment variable `{name}` is not UTF-8"), "give a text");
            }
        },
        Source::File(path) => match read::named(path, most).and_then(read::text) {
            Ok(text) => (text, path.display().to_string()),
            Err(error) => {
                let what = format!("{}: {error}", path.display());
                return failed(what, "give a file that can be read, and holds the value alone");
            }
        },
        Source::Stdin => match read::stdin(most).and_then(read::text) {
            Ok(text) => (text, "stdin".to_owned()),
            Err(error) => return failed(format!("stdin: {error}"), "give the value alone on stdin"),
        },
        Source::Terminal => match asked(name) {
            Ok(text) => (text, "the terminal".to_owned()),
            Err(error) => {
                return failed(format!("it can't be asked for: {error}"), sources);
            }
        },
    };
    // Editors and `echo` end a file with a line end.
    let text = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text);
    if text.is_empty() {
        return failed(format!("{from} holds nothing"), "give a value");
    }
    Ok(text.to_owned())
}

/// Asks on the terminal, which does not show what is typed.
fn asked(name: &str) -> std::io::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(std::io::Error::other("there is no terminal"));
    }
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    silent.local_flags.insert(LocalFlags::ECHONL);
    eprint!("Value of {name} (not shown): ");
    std::io::stderr().flush()?;
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &before)?;
    read.map(|_| line)
}

/// Refuses to go on where a stack needs a value that nobody has given and that it can't keep.
///
/// # Errors
/// With the variables that are not set.
pub fn complete(wanted: &Wanted, found: &Found) -> Result<(), Failure> {
    let missing = missing(wanted.chosen().map(|wanted| &wanted.stack), &found.stacks);
    if missing.is_empty() {
        return Ok(());
    }
    let diagnostics = missing.iter().flat_map(|missing| {
        let name = format!("{}.{}", missing.stack, missing.parameter);
        missing.unset.iter().map(move |unset| {
            unset.diagnostic().help(format!(
                "the stack has no value yet that it could keep; `--set-secret {name}=env:NAME` gives one, too"
            ))
        })
    });
    Err(Failure::Invalid { diagnostics: diagnostics.collect(), files: 1 })
}

/// Refuses a plan from a file that sets other secrets than were given: the file holds no value of any.
///
/// # Errors
/// With the one that is missing, or not planned.
pub fn same(plans: &[StackPlan], wanted: &Wanted) -> Result<(), Failure> {
    let planned = planned(plans);
    let given: Vec<(String, String)> = wanted
        .stacks
        .iter()
        .flat_map(|w| w.stack.forced.iter().map(|name| (w.stack.name.to_string(), name.clone())))
        .collect();
    if let Some((stack, parameter)) = planned.iter().find(|pair| !given.contains(pair)) {
        return Err(Failure::usage(
            format!("the plan sets the secret `{stack}.{parameter}`, whose value is not in its file"),
            format!("give it again: `--set-secret {stack}.{parameter}`"),
        ));
    }
    let extra = given.iter().find(|pair| !planned.contains(pair) && !is_new(plans, &pair.0));
    if let Some((stack, parameter)) = extra {
        return Err(Failure::usage(
            format!("the plan does not set the secret `{stack}.{parameter}`"),
            "leave `--set-secret` out, or make the plan with it",
        ));
    }
    Ok(())
}

/// Whether the plan creates the stack: then every value is new.
fn is_new(plans: &[StackPlan], stack: &str) -> bool {
    plans.iter().any(|plan| plan.stack.as_str() == stack && plan.action == StackAction::Create)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_names_a_source_and_never_a_value() {
        let source = |argument: &str| parsed(argument).map(|(.., source)| source).ok();
        assert_eq!(source("db.Password"), Some(Source::Terminal));
        assert_eq!(source("db.Password=-"), Some(Source::Stdin));
        assert_eq!(source("db.Password=env:X"), Some(Source::Variable("X".to_owned())));
        assert_eq!(source("db.Password=file:a=b:c"), Some(Source::File("a=b:c".into())));
        for bad in [
            "db",
            "=x",
            "db.",
            ".P",
            "db.Password=hunter2",
            "db.Password=",
            "db.Password=env:",
            "db.Password=http://hunter2",
        ] {
            let failure = parsed(bad).expect_err(bad);
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }
}
