//! The checks of a document, a file for each thing they look at.

use super::document::{Document, Kind};
use super::finding::Report;
use super::model::Config;
use super::shape::Structure;
use super::target::{Dialect, Target};
use crate::source::Span;

pub mod accounts;
pub mod commands;
pub mod files;
pub mod header;
pub mod ignition;
pub mod parts;
pub mod secrets;
pub mod size;
pub mod syntax;
pub mod tokens;
pub mod unit_texts;
pub mod units;

/// Checks everything but the first line; gives the bytes to mask.
pub fn body(document: &Document, report: &mut Report<'_>) -> Vec<Span> {
    syntax::check(document, report);
    tokens::check(document, report);
    let mut secrets: Vec<Span> = secrets::text(document, report);
    if let Some(root) = document.root.as_ref().filter(|root| root.entries().is_some()) {
        for dialect in [Dialect::CoreOs, Dialect::CloudInit] {
            if report.wants(Target::defaults(dialect)) {
                Structure { report, dialect }.root(root);
            }
        }
        let config = Config::read(root, document.dialect());
        files::check(&config, report);
        units::check(&config, report);
        unit_texts::check(&config, report);
        accounts::check(&config, report);
        commands::check(&config, report);
        ignition::check(&config, report);
        tokens::encoded(&config, report);
        secrets.extend(secrets::values(&config, report));
    }
    secrets
}

/// Checks all of `document`; gives the bytes to mask.
pub fn whole(document: &Document, targets: &[Target], report: &mut Report<'_>) -> Vec<Span> {
    header::check(document, report);
    size::check(document, report);
    let mut secrets = match document.kind {
        Kind::Multipart => parts::message(document, targets, report),
        Kind::CloudInitOnly => parts::template(document, targets, report),
        Kind::CloudConfig | Kind::Script | Kind::Ignition | Kind::Unknown => return body(document, report),
    };
    secrets.extend(secrets::text(document, report));
    secrets
}
