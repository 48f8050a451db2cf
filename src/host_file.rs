//! Templates of watched files: what they know, the functions they have, and how they are rendered.
//!
//! The functions have the names that confd's users know, and take named arguments as Tera's do: `getv(key="/a")`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};
use tera::{Context, Delimiters, Error, Kwargs, State, Tera, Value};

use crate::model::host_file::{Facts, HostFileSpec, RENDERED_MOST};

/// The variables of a template.
pub const VARIABLES: [&str; 6] = ["cluster", "environment", "machine", "machines", "project", "services"];

/// The functions that a template has beside Tera's own.
pub const FUNCTIONS: [&str; 10] =
    ["datetime", "exists", "get", "getenv", "gets", "getv", "getvs", "lookup_ip", "ls", "lsdir"];

/// The filters that a template has beside Tera's own.
pub const FILTERS: [&str; 6] = ["base", "base64_decode", "base64_encode", "dir", "from_json", "json"];

/// What a template is delimited by: the same as everything else in `templates/`.
pub fn delimiters() -> Delimiters {
    Delimiters {
        block_start: "<%".into(),
        block_end: "%>".into(),
        variable_start: "<{".into(),
        variable_end: "}>".into(),
        comment_start: "<#".into(),
        comment_end: "#>".into(),
    }
}

/// Finds the addresses of a host by its name; the error is why it does not.
pub type Lookup = dyn Fn(&str) -> Result<Vec<IpAddr>, String> + Send + Sync;

/// What a rendering reaches beyond the facts.
#[derive(Clone)]
pub struct Surroundings {
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// The cluster.
    pub cluster: String,
    /// The addresses of a host by its name.
    pub lookup: Arc<Lookup>,
    /// The variables of the environment that templates may read.
    pub variables: BTreeMap<String, String>,
    /// What time it is.
    pub now: DateTime<Utc>,
    /// Whether a key that is not there is an empty text: nothing is known yet where a template is only checked.
    pub lenient: bool,
}

impl Surroundings {
    /// Surroundings in which nothing can be looked up.
    pub fn still(project: &str, environment: &str, cluster: &str, now: DateTime<Utc>) -> Self {
        Self {
            project: project.to_owned(),
            environment: environment.to_owned(),
            cluster: cluster.to_owned(),
            lookup: Arc::new(|name| Err(format!("`{name}` is only looked up on machines"))),
            variables: BTreeMap::new(),
            now,
            lenient: false,
        }
    }
}

/// What `spec` may use of `facts`: another file of the same machine may name more.
pub fn narrowed(spec: &HostFileSpec, facts: &Facts) -> Facts {
    Facts {
        machine: facts.machine.clone(),
        machines: if spec.machines { Arc::clone(&facts.machines) } else { Arc::default() },
        services: facts
            .services
            .iter()
            .filter(|(name, _)| spec.services.has(name))
            .map(|(name, endpoints)| (name.clone(), Arc::clone(endpoints)))
            .collect(),
        keys: facts
            .keys
            .iter()
            .filter(|(key, _)| spec.keys.iter().any(|prefix| is_under(key, prefix)))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}

/// Whether a key is `prefix`, or lies below it. `/app` has `/app/a`, and not `/apple`.
pub fn is_under(key: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Renders a file.
///
/// # Errors
/// Tera's error, which names the place in the template.
pub fn render(spec: &HostFileSpec, facts: &Facts, surroundings: &Surroundings) -> Result<String, Error> {
    let facts = narrowed(spec, facts);
    let context = context(spec, &facts, surroundings);
    let mut tera = engine(Arc::new(facts.keys), surroundings.clone());
    tera.add_raw_template(&spec.source, &spec.template)?;
    let text = tera.render(&spec.source, &context)?;
    if text.len() > RENDERED_MOST {
        let most = RENDERED_MOST >> 20;
        return Err(Error::message(format!(
            "It is {} MiB, and a file may have {most} MiB",
            text.len() >> 20
        )));
    }
    Ok(text)
}

/// What is wrong, in one line: Tera draws several.
pub fn reason(error: &Error, source: &str) -> String {
    use tera::ErrorKind;
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            format!("{source}:{}: {}", report.span().start_line, report.message())
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// The variables of a template.
fn context(spec: &HostFileSpec, facts: &Facts, surroundings: &Surroundings) -> Context {
    let mut context = Context::new();
    context.insert("project", &surroundings.project);
    context.insert("environment", &surroundings.environment);
    context.insert("cluster", &surroundings.cluster);
    context.insert("machine", &facts.machine);
    context.insert("machines", facts.machines.as_ref());
    let mut services: BTreeMap<&str, Json> = BTreeMap::new();
    if let crate::model::host_file::Selection::Named(names) = &spec.services {
        // A service that is not deployed has no instances.
        services.extend(names.iter().map(|name| (name.as_str(), json!({"name": name, "instances": []}))));
    }
    for (name, endpoints) in &facts.services {
        services.insert(name.as_str(), json!({"name": name, "instances": endpoints.as_ref()}));
    }
    context.insert("services", &services);
    context
}

/// Tera with the functions of watched files.
pub fn engine(keys: Arc<BTreeMap<String, String>>, surroundings: Surroundings) -> Tera {
    let mut tera = Tera::new();
    tera.set_delimiters(delimiters()).expect("the delimiters differ and no template is there yet");
    tera.autoescape_on(Vec::<&str>::new());
    let lenient = surroundings.lenient;
    let missing = move |key: &str| {
        if lenient {
            return Ok(String::new());
        }
        Err(Error::message(format!(
            "There is no key `{key}`; give `default`, ask `exists` first, or see that `keys` has its prefix"
        )))
    };
    let known = Arc::clone(&keys);
    tera.register_function("exists", move |kwargs: Kwargs, _: &State<'_>| -> Result<bool, Error> {
        Ok(known.contains_key(&kwargs.must_get::<String>("key")?))
    });
    let known = Arc::clone(&keys);
    tera.register_function("getv", move |kwargs: Kwargs, _: &State<'_>| -> Result<String, Error> {
        let key: String = kwargs.must_get("key")?;
        match (known.get(&key), kwargs.get::<String>("default")?) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(default)) => Ok(default),
            (None, None) => missing(&key),
        }
    });
    let known = Arc::clone(&keys);
    tera.register_function("get", move |kwargs: Kwargs, _: &State<'_>| -> Result<Value, Error> {
        let key: String = kwargs.must_get("key")?;
        let value = known.get(&key).cloned().map_or_else(|| missing(&key), Ok)?;
        Ok(Value::from_serializable(&json!({ "key": key, "value": value })))
    });
    let known = Arc::clone(&keys);
    tera.register_function("gets", move |kwargs: Kwargs, _: &State<'_>| -> Result<Value, Error> {
        let pattern: String = kwargs.must_get("pattern")?;
        let pair = |(key, value): (&String, &String)| json!({ "key": key, "value": value });
        let found: Vec<Json> = matching(&known, &pattern)?.map(pair).collect();
        Ok(Value::from_serializable(&found))
    });
    let known = Arc::clone(&keys);
    tera.register_function("getvs", move |kwargs: Kwargs, _: &State<'_>| -> Result<Value, Error> {
        let pattern: String = kwargs.must_get("pattern")?;
        let found: Vec<&String> = matching(&known, &pattern)?.map(|(_, value)| value).collect();
        Ok(Value::from_serializable(&found))
    });
    for (name, folders) in [("ls", false), ("lsdir", true)] {
        let known = Arc::clone(&keys);
        tera.register_function(name, move |kwargs: Kwargs, _: &State<'_>| -> Result<Value, Error> {
            let key: String = kwargs.must_get("key")?;
            Ok(Value::from_serializable(&listed(&known, &key, folders)))
        });
    }
    let variables = surroundings.variables.clone();
    tera.register_function("getenv", move |kwargs: Kwargs, _: &State<'_>| -> Result<String, Error> {
        let name: String = kwargs.must_get("name")?;
        match (variables.get(&name), kwargs.get::<String>("default")?) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(default)) => Ok(default),
            (None, None) if lenient => Ok(String::new()),
            (None, None) => Err(Error::message(format!(
                "The agent has no variable `{name}`, or it is one that templates may not read; give `default`"
            ))),
        }
    });
    let now = surroundings.now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    tera.register_function("datetime", move |_: Kwargs, _: &State<'_>| -> Result<String, Error> {
        Ok(now.clone())
    });
    let lookup = Arc::clone(&surroundings.lookup);
    tera.register_function("lookup_ip", move |kwargs: Kwargs, _: &State<'_>| -> Result<Value, Error> {
        let name: String = kwargs.must_get("name")?;
        let mut found = if lenient { Vec::new() } else { lookup(&name).map_err(Error::message)? };
        found.sort_unstable();
        found.dedup();
        Ok(Value::from_serializable(&found))
    });
    filters(&mut tera);
    tera
}

fn filters(tera: &mut Tera) {
    tera.register_filter("base", |path: &str, _: Kwargs, _: &State<'_>| {
        let path = path.trim_end_matches('/');
        path.rsplit_once('/').map_or(path, |(_, last)| last).to_owned()
    });
    tera.register_filter("dir", |path: &str, _: Kwargs, _: &State<'_>| {
        match path.trim_end_matches('/').rsplit_once('/') {
            Some(("", _)) => "/".to_owned(),
            Some((folder, _)) => folder.to_owned(),
            None => ".".to_owned(),
        }
    });
    tera.register_filter("base64_encode", |text: &str, _: Kwargs, _: &State<'_>| STANDARD.encode(text));
    tera.register_filter("base64_decode", |text: &str, _: Kwargs, _: &State<'_>| -> Result<String, Error> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|error| Error::message(format!("This is not base64: {error}")))?;
        String::from_utf8(bytes).map_err(|_| Error::message("What is encoded here is no text in UTF-8"))
    });
    tera.register_filter("from_json", |text: &str, _: Kwargs, _: &State<'_>| -> Result<Value, Error> {
        let value: Json = serde_json::from_str(text)
            .map_err(|error| Error::message(format!("This is not JSON: {error}")))?;
        Ok(Value::from_serializable(&value))
    });
    tera.register_filter("json", |value: &Value, _: Kwargs, _: &State<'_>| -> Result<String, Error> {
        serde_json::to_string(value)
            .map_err(|error| Error::message(format!("It can't be written as JSON: {error}")))
    });
}

/// The keys that fit a pattern, as Go's `path.Match` has them: `*` and `?` stop at `/`.
fn matching<'k>(
    keys: &'k BTreeMap<String, String>,
    pattern: &str,
) -> Result<impl Iterator<Item = (&'k String, &'k String)> + use<'k>, Error> {
    let pattern = glob::Pattern::new(pattern)
        .map_err(|error| Error::message(format!("`{pattern}` is not a pattern: {error}")))?;
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    Ok(keys.iter().filter(move |(key, _)| pattern.matches_with(key, options)))
}

/// The names directly below `key`, sorted: of keys, or of those that have others below them.
fn listed(keys: &BTreeMap<String, String>, key: &str, folders: bool) -> BTreeSet<String> {
    let folder = format!("{}/", key.trim_end_matches('/'));
    keys.keys()
        .filter_map(|key| key.strip_prefix(&folder))
        .filter_map(|rest| match rest.split_once('/') {
            Some((name, _)) => Some(name),
            None => (!folders).then_some(rest),
        })
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
