//! Which module may import which: the one place where the table is written.
//!
//! Every path in `src/` that starts with `crate::`, `fleetwright::` or enough `super::`
//! to leave its module is held against the table, wherever it stands: in `use`, in types,
//! in expressions and in attributes' macros that can be parsed as such.

#![allow(clippy::disallowed_methods, reason = "this reads the project's own files")]

use std::collections::BTreeSet;
use std::path::Path;

use syn::visit::Visit;

/// A module, and the modules of ours that it may import besides itself.
const TABLE: &[(&str, &[&str])] = &[
    ("source", &[]),
    ("yaml", &["source"]),
    ("unit", &["source"]),
    ("cloud_config", &["source", "unit", "yaml"]),
    ("compose", &["model", "source", "yaml"]),
    ("foreign_pipeline", &["model", "source", "yaml"]),
    ("host_file", &["model"]),
    ("schema", &[]),
    ("model", &["source"]),
    ("event", &["model", "source"]),
    ("port", &["model", "source"]),
    ("repo", &["cloud_config", "host_file", "model", "schema", "source", "unit", "yaml"]),
    ("plan", &["cloud_config", "event", "host_file", "model", "schema", "source", "unit"]),
    ("driver", &["host_file", "model", "plan", "event", "port", "repo", "source"]),
    ("adapter", &["model", "port", "source"]),
    ("local", &["model", "event", "port", "adapter", "source"]),
    ("view", &["cloud_config", "compose", "foreign_pipeline", "model", "plan", "event", "source"]),
    ("server", &["model", "plan", "event", "driver", "port", "repo", "view", "source"]),
    (
        "cli",
        &[
            "source",
            "yaml",
            "schema",
            "unit",
            "cloud_config",
            "compose",
            "foreign_pipeline",
            "host_file",
            "model",
            "event",
            "port",
            "repo",
            "plan",
            "driver",
            "adapter",
            "local",
            "view",
            "server",
        ],
    ),
];

/// An import that the table does not have.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Breach {
    file: String,
    line: usize,
    imports: String,
}

/// The paths of one file.
struct Imports<'a> {
    file: &'a str,
    /// The file's module path below the crate, `["cli", "cmd", "plan"]`.
    module: Vec<String>,
    /// How deep in `mod name { }` blocks we are.
    inner: usize,
    breaches: BTreeSet<Breach>,
}

impl Imports<'_> {
    fn check(&mut self, segments: &[String], line: usize) {
        let mut above = 0;
        let mut rest = segments;
        let target = match rest.first().map(String::as_str) {
            Some("crate" | "fleetwright") => rest.get(1).cloned(),
            Some("self") | None => None,
            Some("super") => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    above += 1;
                    rest = &rest[1..];
                }
                // Only paths that climb to the crate's root reach another module.
                (above == self.module.len() + self.inner).then(|| rest.first().cloned()).flatten()
            }
            Some(_) => None,
        };
        let (Some(target), Some(own)) = (target, self.module.first()) else { return };
        let known = TABLE.iter().any(|(module, _)| *module == target);
        let allowed = TABLE.iter().find(|(module, _)| module == own).map_or(&[][..], |(_, allowed)| allowed);
        if known && target != *own && !allowed.contains(&target.as_str()) {
            self.breaches.insert(Breach { file: self.file.to_owned(), line, imports: target });
        }
    }

    fn tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                let mut prefix = prefix.to_vec();
                prefix.push(path.ident.to_string());
                self.tree(&prefix, &path.tree);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(prefix, item)),
            syn::UseTree::Name(name) => self.leaf(prefix, &name.ident),
            syn::UseTree::Rename(rename) => self.leaf(prefix, &rename.ident),
            syn::UseTree::Glob(glob) => {
                self.check(prefix, glob.star_token.spans[0].start().line);
            }
        }
    }

    fn leaf(&mut self, prefix: &[String], ident: &proc_macro2::Ident) {
        let mut segments = prefix.to_vec();
        segments.push(ident.to_string());
        self.check(&segments, ident.span().start().line);
    }

    /// Macros are not parsed; `crate :: name` in their tokens is what can be seen.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut before: Vec<String> = Vec::new();
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    before.clear();
                }
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ':' => {}
                proc_macro2::TokenTree::Ident(ident) => {
                    before.push(ident.to_string());
                    if let [.., first, _] = before.as_slice()
                        && first == "crate"
                    {
                        let path = before[before.len() - 2..].to_vec();
                        self.check(&path, ident.span().start().line);
                    }
                }
                proc_macro2::TokenTree::Punct(_) | proc_macro2::TokenTree::Literal(_) => before.clear(),
            }
        }
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.check(&segments, line);
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(mac.tokens.clone());
        syn::visit::visit_macro(self, mac);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inner += 1;
        syn::visit::visit_item_mod(self, item);
        self.inner -= 1;
    }
}

/// The breaches in the text of `file`, given relative to `src/`.
fn breaches(file: &str, text: &str) -> Vec<Breach> {
    let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let module =
        file.trim_end_matches(".rs").trim_end_matches("/mod").split('/').map(str::to_owned).collect();
    let mut imports = Imports { file, module, inner: 0, breaches: BTreeSet::new() };
    imports.visit_file(&syntax);
    imports.breaches.into_iter().collect()
}

fn sources(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("src can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("it is below src").to_string_lossy().into_owned();
            found.push((name, std::fs::read_to_string(&path).expect("a source file can be read")));
        }
    }
}

#[test]
fn imports_follow_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &root, &mut files);
    assert!(files.len() > 30, "only {} files were found", files.len());
    let mut found = Vec::new();
    for (name, text) in &files {
        if name != "lib.rs" && name != "main.rs" {
            found.extend(breaches(name, text));
        }
    }
    let list: Vec<String> = found
        .iter()
        .map(|breach| {
            let own = breach.file.split(['/', '.']).next().unwrap_or_default();
            format!("src/{}:{}: `{own}` must not import `{}`", breach.file, breach.line, breach.imports)
        })
        .collect();
    assert!(list.is_empty(), "imports that the table does not have:\n{}", list.join("\n"));
}

#[test]
fn every_module_is_in_the_table() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("lib.rs");
    let syntax = syn::parse_file(&text).expect("lib.rs can be parsed");
    for item in syntax.items {
        if let syn::Item::Mod(item) = item {
            let name = item.ident.to_string();
            assert!(TABLE.iter().any(|(module, _)| *module == name), "`{name}` is not in the table");
        }
    }
}

#[test]
fn a_breach_is_found_wherever_it_stands() {
    let found = |file: &str, text: &str| -> Vec<(usize, String)> {
        breaches(file, text).into_iter().map(|breach| (breach.line, breach.imports)).collect()
    };
    let one = |line: usize, imports: &str| vec![(line, imports.to_owned())];
    assert_eq!(found("model/stack.rs", "use crate::source::Span;\nuse super::name::StackName;\n"), vec![]);
    assert_eq!(found("model/stack.rs", "use crate::repo::load;"), one(1, "repo"));
    assert_eq!(found("model/stack.rs", "use crate::{source::Span, repo as r};"), one(1, "repo"));
    assert_eq!(found("model/stack.rs", "\nuse super::super::cli::*;"), one(2, "cli"));
    assert_eq!(found("model.rs", "use super::adapter::aws;"), one(1, "adapter"));
    assert_eq!(found("plan.rs", "fn f() -> u8 { crate::adapter::aws::count() }"), one(1, "adapter"));
    assert_eq!(found("plan.rs", "fn f() { println!(\"{}\", crate::adapter::count()); }"), one(1, "adapter"));
    assert_eq!(found("view.rs", "mod inner { use super::super::repo; }"), one(1, "repo"));
    assert_eq!(found("view.rs", "mod inner { use super::repo; }"), vec![]);
    assert_eq!(found("cli/cmd/plan.rs", "use crate::{adapter, driver, view};"), vec![]);
    assert_eq!(found("driver/apply.rs", "use crate::adapter::aws::Aws;"), one(1, "adapter"));
}
