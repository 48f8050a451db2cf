//! Everything that this program stores or sends: each format has samples in `tests/formats`,
//! one for every shape that it ever had, and the samples must load (the loaders are unit tests
//! beside the types). Here the source is read, so that nothing is forgotten: a type that is
//! deserialised belongs to a format, a format whose types change needs a new sample, and what a
//! request brings is refused where it is not known.

#![allow(clippy::disallowed_methods, reason = "this reads the project's own files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A format: its folder in `tests/formats`, its types as `FILE NAME`, and the file whose tests load its
/// samples.
struct Format {
    name: &'static str,
    types: &'static [&'static str],
    loader: &'static str,
}

const FORMATS: &[Format] = &[
    Format {
        name: "revision",
        types: &["adapter/swarm/history.rs Stored", "adapter/swarm/history.rs StoredFailure"],
        loader: "adapter/swarm/history.rs",
    },
    Format {
        name: "jobs",
        types: &[
            "adapter/swarm/jobs/objects.rs StoredJob",
            "adapter/swarm/jobs/objects.rs StoredClaim",
            "adapter/swarm/jobs/objects.rs Settled",
            "adapter/swarm/jobs/objects.rs StoredPermit",
        ],
        loader: "adapter/swarm/jobs/objects.rs",
    },
    Format {
        name: "job-requests",
        types: &[
            "model/job.rs JobDeployment",
            "port/cluster_wire.rs CommandRequest",
            "port/cluster_wire.rs PermitRequest",
        ],
        loader: "port/cluster_wire.rs",
    },
    Format {
        name: "job-answers",
        types: &["model/job.rs Jobs", "port/cluster_wire.rs OutputLine"],
        loader: "port/cluster_wire.rs",
    },
    Format {
        name: "credentials",
        types: &["port/cluster_wire.rs CredentialsRequest", "port/cluster_wire.rs TaskCredentials"],
        loader: "port/cluster_wire.rs",
    },
    Format { name: "labels", types: &[], loader: "adapter/swarm/observe/tests.rs" },
    Format {
        name: "reboot-leave",
        types: &["adapter/swarm/reboot.rs Stored"],
        loader: "adapter/swarm/reboot.rs",
    },
    Format { name: "turn", types: &["adapter/swarm/turn.rs Stored"], loader: "adapter/swarm/turn.rs" },
    Format {
        name: "founding",
        types: &["model/founding.rs Stored", "model/founding.rs StoredHolder"],
        loader: "model/founding.rs",
    },
    Format { name: "restored", types: &["driver/rendezvous.rs Restored"], loader: "driver/rendezvous.rs" },
    Format {
        name: "backup",
        types: &["model/backup.rs BackupList", "model/backup.rs Backup", "model/backup.rs Part"],
        loader: "model/backup.rs",
    },
    Format { name: "desired", types: &["model/desired.rs Document"], loader: "plan/desired/tests.rs" },
    Format { name: "endpoint", types: &["port/cluster_wire.rs Endpoint"], loader: "port/cluster_wire.rs" },
    Format {
        name: "registry-credentials",
        types: &[
            "adapter/registry_access.rs Document",
            "adapter/registry.rs Document",
            "local/registry.rs Parameter",
        ],
        loader: "adapter/registry_access.rs",
    },
    Format {
        name: "requests",
        types: &[
            "model/service.rs Deployment",
            "port/cluster_wire.rs DrainRequest",
            "port/cluster_wire.rs Registration",
            "port/cluster_wire.rs Unhealthy",
            "port/cluster_wire.rs RebootRequest",
            "port/cluster_wire.rs EtcdClientRequest",
            "port/cluster_wire.rs RecoverRequest",
            "port/cluster_wire.rs ScaleRequest",
            "port/cluster_wire.rs PortsReport",
            "port/cluster_wire.rs PressureReport",
        ],
        loader: "port/cluster_wire.rs",
    },
    Format {
        name: "answers",
        types: &[
            "port/cluster.rs Snapshot",
            "port/cluster_wire.rs Changed",
            "port/cluster_wire.rs Drained",
            "port/cluster_wire.rs EtcdClient",
            "port/cluster_wire.rs Line",
            "port/cluster_wire.rs ErrorBody",
            "port/cluster_wire.rs RebootState",
            "port/cluster_wire.rs AuditPage",
            "model/reboot.rs Answer",
            "model/reboot.rs Returned",
            "model/cluster.rs View",
            "model/standing.rs Standing",
            "model/standing.rs Turn",
            "port/cluster_wire.rs RestoredServices",
            "port/cluster_wire.rs SecretVersions",
        ],
        loader: "port/cluster_wire.rs",
    },
    Format {
        name: "units",
        types: &[
            "port/cluster_wire.rs UnitTasksRequest",
            "port/cluster_wire.rs UnitTasks",
            "model/unit.rs UnitOrder",
            "port/units.rs UnitRecord",
        ],
        loader: "port/units.rs",
    },
    Format {
        name: "host-files",
        types: &[
            "adapter/swarm/host_files.rs StoredFile",
            "port/cluster_wire.rs FeedItem",
            "port/cluster_wire.rs HostFileList",
            "port/cluster_wire.rs HostFileReport",
            "port/cluster_wire.rs KeysRequest",
            "port/cluster_wire.rs KeyList",
            "port/host_files.rs HostFileRecord",
        ],
        loader: "adapter/swarm/host_files.rs",
    },
    Format {
        name: "streams",
        types: &[
            "port/streams.rs ExecRequest",
            "port/streams.rs Terminal",
            "model/frame.rs Size",
            "port/streams.rs LogRequest",
            "port/streams.rs LogLine",
            "port/streams.rs MissingLogs",
            "model/logs.rs LogQuery",
            "model/logs.rs LogEntry",
        ],
        loader: "port/streams.rs",
    },
    Format {
        name: "notify",
        types: &[
            "model/notify.rs Receivers",
            "model/notify.rs Receiver",
            "model/notify.rs StoredNotified",
            "plan/notify.rs Body",
        ],
        loader: "model/notify.rs",
    },
    Format {
        name: "timeline",
        types: &[
            "model/timeline.rs EventPage",
            "model/timeline.rs MissingEvents",
            "model/timeline.rs TimelineEvent",
            "model/timeline.rs EventQuery",
        ],
        loader: "model/timeline.rs",
    },
    Format { name: "deployed", types: &["model/service.rs Deployed"], loader: "port/cluster_wire.rs" },
    Format {
        name: "journal",
        types: &[
            "model/run.rs RunConfig",
            "model/run.rs StepState",
            "model/run.rs Answer",
            "model/git_ref.rs GitRef",
            "model/step_files.rs StepFile",
            "model/step_files.rs TestReport",
            "event/pipeline.rs PipelineEvent",
        ],
        loader: "adapter/journal.rs",
    },
    Format { name: "step-logs", types: &[], loader: "adapter/step_logs/tests.rs" },
    Format {
        name: "pipeline-api",
        types: &[
            "port/pipeline_wire.rs RunRequest",
            "port/pipeline_wire.rs CancelRequest",
            "port/pipeline_wire.rs RetryRequest",
            "port/pipeline_wire.rs ShellRequest",
            "port/pipeline_wire.rs AnswerRequest",
            "port/pipeline_wire.rs AnsweredAnswer",
            "port/pipeline_wire.rs QueuedAnswer",
            "port/pipeline_wire.rs CancelledAnswer",
            "port/pipeline_wire.rs Refusal",
        ],
        loader: "port/pipeline_wire.rs",
    },
    Format { name: "serve", types: &["adapter/serve_file.rs Stored"], loader: "adapter/serve_file.rs" },
    Format { name: "plan", types: &["plan/saved.rs SavedPlan"], loader: "plan/saved_tests.rs" },
    Format { name: "lock", types: &["model/lock.rs LockRecord"], loader: "plan/lock.rs" },
    Format { name: "roll", types: &["plan/roll.rs Intent"], loader: "plan/roll_tests.rs" },
    Format { name: "local-state", types: &["local/state.rs State"], loader: "local/state.rs" },
    Format { name: "power-note", types: &["local/power.rs Note"], loader: "local/power.rs" },
    Format {
        name: "local-executable",
        types: &["local/executable.rs Executable"],
        loader: "local/executable.rs",
    },
    Format {
        name: "known-template",
        types: &["adapter/aws/templates.rs Kept"],
        loader: "adapter/aws/templates.rs",
    },
    Format { name: "events", types: &["event.rs Event"], loader: "event.rs" },
];

/// Types that are deserialised and are no format of ours, and whose they are.
const OTHERS: &[(&str, &str)] = &[
    ("schema/", "CloudFormation's schemas, embedded by the build"),
    ("adapter/etcd.rs", "etcd's answers"),
    ("adapter/etcd_keys.rs", "etcd's answers"),
    ("adapter/registry_access.rs ImageDocument", "an image's configuration, of the registry"),
    ("adapter/registry_access.rs Execution", "an image's configuration, of the registry"),
    ("local/instance.rs", "EC2's answers, of the local cloud"),
    ("local/boot/expect.rs", "a file that a person writes"),
    ("cli/cmd/agent.rs", "agent.yaml, which cloud-config writes; unknown keys are refused"),
    ("model/window.rs", "values of agent.yaml"),
    ("model/access.rs", "its sample is in the tests beside it"),
    ("model/audit.rs", "its sample is in the tests beside it"),
    ("model/token.rs", "its sample is in the tests beside it"),
    ("model/principal.rs", "its sample is in the tests beside it"),
    ("model/identity.rs", "its sample is in the tests beside it"),
    ("adapter/issuer.rs", "tokens of an hour; another version has another prefix and another key"),
    ("port/tokens.rs", "its sample is in the tests beside it"),
    ("model/address.rs", "agent.yaml and fleetwright.yaml; unknown keys are refused"),
    ("server/", "queries, which are checked below"),
    ("adapter/commit_statuses.rs", "the answers of forges"),
    ("cli/cmd/pipeline.rs Logged", "an entry of a log: an event with its time"),
    ("model/deployed.rs", "AWS's answers; what a saved plan holds of them is in `plan`"),
    ("model/drift.rs", "printed only"),
    ("model/group.rs", "AWS's answers"),
    ("model/service.rs AnyOrigin", "`Origin`, read without strictness"),
    ("model/run.rs Run", "sent by the pipeline server, and never stored"),
    ("model/local_cloud.rs", "printed only"),
    ("model/run.rs RunStep", "sent by the pipeline server, and never stored"),
];

/// A type that the source defines.
struct Definition {
    file: String,
    name: String,
    /// The names in the types of its fields.
    fields: BTreeSet<String>,
    /// Whether it, or a variant of it, has fields with names.
    named: bool,
    /// Its text without comments, derives and visibility.
    shape: String,
    derives: bool,
    strict: bool,
}

#[derive(Default)]
struct Source {
    /// By file and name.
    types: BTreeMap<(String, String), Definition>,
    /// What a file imports: name to the last part of the module path.
    imports: BTreeMap<(String, String), Vec<String>>,
    /// Types of what handlers extract, with file.
    extracted: BTreeSet<(String, String, String)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read() -> Source {
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    assert!(paths.len() > 100, "only {} files", paths.len());
    let mut source = Source::default();
    for path in paths {
        let name = path.strip_prefix(root()).expect("below src").display().to_string();
        if name.ends_with("tests.rs") || name.ends_with("fake.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut reader = Reader { file: name, text: &text, source: &mut source };
        reader.visit_file(&file);
    }
    source
}

struct Reader<'a> {
    file: String,
    text: &'a str,
    source: &'a mut Source,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}

impl Reader<'_> {
    fn keep(
        &mut self,
        name: &syn::Ident,
        attributes: &[syn::Attribute],
        fields: &[&syn::Fields],
        (word, end): (proc_macro2::Span, proc_macro2::Span),
    ) {
        let start = attributes.first().map_or(word, |one| one.pound_token.spans[0]).start();
        let end = end.end();
        let lines: Vec<&str> = self.text.lines().collect();
        let whole = &lines[start.line - 1..end.line];
        let kept: Vec<&str> = whole
            .iter()
            .map(|line| line.trim())
            .filter(|line| !line.starts_with("//") && !line.starts_with("#[derive") && !line.is_empty())
            .map(|line| line.strip_prefix("pub ").unwrap_or(line))
            .map(|line| line.strip_prefix("pub(super) ").unwrap_or(line))
            .collect();
        let before: String = whole.join(" ");
        let derives = attributes.iter().any(|one| one.path().is_ident("derive"))
            && before
                .split("#[derive")
                .nth(1)
                .is_some_and(|rest| rest.split(']').next().unwrap_or("").contains("Deserialize"));
        let strict = attributes.iter().any(|one| {
            one.path().is_ident("serde") && {
                let mut found = false;
                let _ = one.parse_nested_meta(|meta| {
                    found |= meta.path.is_ident("deny_unknown_fields");
                    if let Ok(value) = meta.value() {
                        let _: syn::Expr = value.parse()?;
                    }
                    Ok(())
                });
                found
            }
        });
        let definition = Definition {
            file: self.file.clone(),
            name: name.to_string(),
            fields: fields.iter().flat_map(|one| one.iter()).flat_map(|one| names_of(&one.ty)).collect(),
            named: fields.iter().any(|one| matches!(one, syn::Fields::Named(_))),
            shape: kept.join(" "),
            derives,
            strict,
        };
        self.source.types.insert((self.file.clone(), name.to_string()), definition);
    }

    fn import(&mut self, prefix: &[String], tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                let mut prefix = prefix.to_vec();
                prefix.push(path.ident.to_string());
                self.import(&prefix, &path.tree);
            }
            syn::UseTree::Name(name) => {
                let mut path = prefix.to_vec();
                path.push(name.ident.to_string());
                self.source.imports.insert((self.file.clone(), name.ident.to_string()), path);
            }
            syn::UseTree::Rename(rename) => {
                let mut path = prefix.to_vec();
                path.push(rename.ident.to_string());
                self.source.imports.insert((self.file.clone(), rename.rename.to_string()), path);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|one| self.import(prefix, one)),
            syn::UseTree::Glob(_) => {}
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let end = match &item.fields {
            syn::Fields::Named(fields) => fields.brace_token.span.close(),
            _ => item.semi_token.as_ref().map_or(item.struct_token.span, |semi| semi.spans[0]),
        };
        self.keep(&item.ident, &item.attrs, &[&item.fields], (item.struct_token.span, end));
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        let end = item.brace_token.span.close();
        let fields: Vec<&syn::Fields> = item.variants.iter().map(|one| &one.fields).collect();
        self.keep(&item.ident, &item.attrs, &fields, (item.enum_token.span, end));
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if !self.file.starts_with("server/") || self.file == "server/strict.rs" {
            return;
        }
        for input in &signature.inputs {
            let syn::FnArg::Typed(typed) = input else { continue };
            let syn::Type::Path(path) = &*typed.ty else { continue };
            let Some(last) = path.path.segments.last() else { continue };
            let extractor = last.ident.to_string();
            if !["Json", "Query", "Form", "RawForm", "Strict", "StrictOrDefault", "StrictQuery"]
                .contains(&extractor.as_str())
            {
                continue;
            }
            for name in names_of(&typed.ty).into_iter().filter(|name| *name != extractor) {
                self.source.extracted.insert((self.file.clone(), extractor.clone(), name));
            }
        }
    }
}

/// Every name in a type, those in its arguments included.
fn names_of(kind: &syn::Type) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Names {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            if let Some(last) = path.segments.last() {
                self.0.insert(last.ident.to_string());
            }
            syn::visit::visit_path(self, path);
        }
    }
    let mut names = Names(BTreeSet::new());
    names.visit_type(kind);
    names.0
}

impl Source {
    /// The definition that `name` means in `file`.
    fn resolve(&self, file: &str, name: &str) -> Option<&Definition> {
        if let Some(own) = self.types.get(&(file.to_owned(), name.to_owned())) {
            return Some(own);
        }
        let path = self.imports.get(&(file.to_owned(), name.to_owned()));
        let (real, module) = match path {
            Some(path) => (path.last()?.clone(), path.iter().rev().nth(1).cloned()),
            None => (name.to_owned(), None),
        };
        let fitting: Vec<&Definition> = self
            .types
            .iter()
            .filter(|((_, known), _)| *known == real)
            .filter(|((file, _), _)| {
                let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
                module.as_ref().is_none_or(|module| {
                    stem == *module
                        || matches!(module.as_str(), "crate" | "super" | "self")
                        || file.contains(&format!("{module}/"))
                })
            })
            .map(|(_, definition)| definition)
            .collect();
        match fitting.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The types that `name` in `file` is made of, itself included.
    fn reach<'a>(&'a self, file: &str, name: &str, found: &mut BTreeMap<String, &'a Definition>) {
        let Some(definition) = self.resolve(file, name) else { return };
        let key = format!("{} {}", definition.file, definition.name);
        if found.insert(key, definition).is_some() {
            return;
        }
        for name in &definition.fields {
            self.reach(&definition.file, name, found);
        }
    }

    fn format(&self, format: &Format) -> BTreeMap<String, &Definition> {
        let mut found = BTreeMap::new();
        for root in format.types {
            let (file, name) = root.split_once(' ').expect("FILE NAME");
            assert!(
                self.types.contains_key(&(file.to_owned(), name.to_owned())),
                "format `{}` names `{root}`, which is not there",
                format.name
            );
            self.reach(file, name, &mut found);
        }
        found
    }
}

fn folder(format: &Format) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format.name)
}

/// The numbers of a format's files with that ending, or with any other.
fn numbers(format: &Format, shapes: bool) -> BTreeSet<u32> {
    let entries = std::fs::read_dir(folder(format)).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let wanted = paths.filter(|path| (path.extension().is_some_and(|one| one == "shape")) == shapes);
    wanted.filter_map(|path| path.file_stem()?.to_str()?.split('-').next()?.parse().ok()).collect()
}

#[test]
fn requests_with_fields_that_are_not_known_are_refused() {
    let source = read();
    assert!(source.extracted.len() >= 8, "only {:?} were found", source.extracted);
    let mut wrong = Vec::new();
    for (file, extractor, name) in &source.extracted {
        if !extractor.starts_with("Strict") {
            wrong.push(format!("src/{file}: `{extractor}<{name}>` is to be `Strict` or `StrictQuery`"));
        }
        let mut found = BTreeMap::new();
        source.reach(file, name, &mut found);
        assert!(!found.is_empty(), "src/{file}: `{name}` was not found");
        for (key, definition) in found {
            if definition.derives && definition.named && !definition.strict {
                wrong.push(format!("src/{key}: it is sent, and lacks `deny_unknown_fields`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What answers a caller may gain fields: an older caller passes them over.
#[test]
fn answers_may_gain_fields() {
    let source = read();
    let answers = FORMATS.iter().find(|format| format.name == "answers").expect("it is there");
    // These are sent as well, and what an answer holds of them is read otherwise.
    let both = ["model/service.rs Origin", "model/cluster.rs LogEnd"];
    let strict: Vec<String> = source
        .format(answers)
        .into_iter()
        .filter(|(key, definition)| definition.strict && !both.contains(&key.as_str()))
        .map(|(key, _)| key)
        .collect();
    assert!(strict.is_empty(), "an older caller could not read what these gain: {strict:?}");
}

#[test]
fn every_type_that_is_read_belongs_to_a_format() {
    let source = read();
    let known: BTreeSet<String> =
        FORMATS.iter().flat_map(|format| source.format(format).into_keys()).collect();
    let forgotten: Vec<String> = source
        .types
        .iter()
        .filter(|(_, definition)| definition.derives)
        .map(|((file, name), _)| format!("{file} {name}"))
        .filter(|key| !known.contains(key))
        .filter(|key| !OTHERS.iter().any(|(other, _)| key.starts_with(other)))
        .collect();
    assert!(
        forgotten.is_empty(),
        "these are read from somewhere; name them in tests/formats.rs, with samples: {forgotten:#?}"
    );
}

#[test]
fn a_format_that_changed_has_a_new_sample() {
    let source = read();
    let write = std::env::var_os("FLEETWRIGHT_SHAPES").is_some_and(|value| value == "write");
    let mut wrong = Vec::new();
    for format in FORMATS {
        let types = source.format(format);
        let shape: String = types.iter().map(|(key, one)| format!("{key}: {}\n", one.shape)).collect();
        let samples = numbers(format, false);
        let shapes = numbers(format, true);
        let newest = shapes.iter().max().copied().unwrap_or(0);
        let file = |number: u32| folder(format).join(format!("{number}.shape"));
        let recorded = std::fs::read_to_string(file(newest)).unwrap_or_default();
        if recorded != shape && !format.types.is_empty() {
            if write {
                std::fs::write(file(newest + 1), &shape).expect("written");
            }
            wrong.push(format!(
                "format `{0}` changed. Add tests/formats/{0}/{1} with what is written now and keep the \
                 others; FLEETWRIGHT_SHAPES=write records the shape",
                format.name,
                newest + 1
            ));
        } else if let Some(missing) = shapes.difference(&samples).next() {
            wrong.push(format!("tests/formats/{}/{missing} is missing: a sample of that shape", format.name));
        }
        if samples.is_empty() {
            wrong.push(format!("format `{}` has no sample", format.name));
        }
        let text = std::fs::read_to_string(root().join(format.loader)).unwrap_or_default();
        if !text.contains(&format!("samples::of(\"{}\")", format.name)) {
            wrong.push(format!("src/{} loads no samples of `{}`", format.loader, format.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_folder_of_samples_is_a_format() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(FORMATS.iter().any(|format| format.name == name), "tests/formats/{name} is no format's");
    }
}
