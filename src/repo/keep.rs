//! `pipelines:` of `fleetwright.yaml`: what the pipeline server keeps, and how long.

use std::time::Duration;

use super::decode::Reader;
use crate::model::duration;
use crate::model::keep::{Bounds, Keep};
use crate::source::{Diagnostic, Span};
use crate::yaml::Node;

/// The section's key.
pub const KEY: &str = "pipelines";

/// The shortest age: the sweep that removes things comes once an hour.
const AGE_LEAST: Duration = Duration::from_secs(3600);

/// Decodes the section; `place` is its key.
pub fn decode(reader: &mut Reader<'_>, node: &Node, place: Span) -> Keep {
    let mut keep = Keep::default();
    let Some(fields) = reader.fields(node, place, "`pipelines`", &["keep"]) else { return keep };
    let Some(node) = fields.get("keep") else { return keep };
    let keys = ["runs", "files", "caches", "images", "build_cache"];
    let Some(fields) = reader.fields(node, node.span, "`keep`", &keys) else { return keep };
    let all = [&mut keep.runs, &mut keep.files, &mut keep.caches, &mut keep.images, &mut keep.build_cache];
    for (key, bounds) in keys.into_iter().zip(all) {
        if let Some(node) = fields.get(key) {
            limits(reader, node, key, bounds);
        }
    }
    keep
}

/// An age, a size, or a mapping with either or both. What is not given keeps its default.
fn limits(reader: &mut Reader<'_>, node: &Node, key: &str, bounds: &mut Bounds) {
    if node.entries().is_some() {
        let Some(fields) = reader.fields(node, node.span, "a limit", &["age", "size"]) else {
            return;
        };
        if let Some(node) = fields.get("age") {
            bounds.age = age(reader, node, "`age`").unwrap_or(bounds.age);
        }
        if let Some(node) = fields.get("size") {
            bounds.size = reader.size(node, "`size`").unwrap_or(bounds.size);
        }
        return;
    }
    let Some(text) = reader.text(node, &format!("`{key}`")) else { return };
    // Units of sizes end in `B`, those of times never do.
    if text.ends_with(['B', 'b']) {
        bounds.size = reader.size(node, &format!("`{key}`")).unwrap_or(bounds.size);
    } else {
        bounds.age = age(reader, node, &format!("`{key}`")).unwrap_or(bounds.age);
    }
}

fn age(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Duration> {
    let text = reader.text(node, what)?;
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let Some(found) =
        days.map(|days| Duration::from_secs(24 * 3600) * days).or_else(|| duration::parse(text))
    else {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is neither an age nor a size"));
        reader.problem(diagnostic, node.span, "for example `30d`, `12h` or `10GiB`");
        return None;
    };
    if found < AGE_LEAST {
        let diagnostic = Diagnostic::error("out-of-range", format!("{what} must be at least `1h`"));
        reader.problem(diagnostic, node.span, "too short");
        return None;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;
    use crate::yaml;

    fn decoded(text: &str) -> (Keep, Vec<String>) {
        let (file, mut problems) = (SourceFile::new("fleetwright.yaml", text), Vec::new());
        let root = yaml::parse(&file, &mut problems).expect("YAML");
        let keep = decode(&mut Reader { file: &file, problems: &mut problems }, &root, root.span);
        let said = problems.iter().map(|problem| {
            let label = problem.label.as_ref().expect("a place");
            let at = file.position(label.span.start);
            format!("{at}: {}: {}", problem.message, label.text)
        });
        (keep, said.collect())
    }

    #[test]
    fn each_limit_is_an_age_a_size_or_both() {
        let text = "keep:\n  runs: 180d\n  files: 1GiB\n  caches: {age: 12h, size: 512MiB}\n  images: {size: 1TiB}\n";
        let (keep, problems) = decoded(text);
        assert_eq!(problems, Vec::<String>::new());
        let default = Keep::default();
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(keep.runs, Bounds { age: days(180), ..default.runs });
        assert_eq!(keep.files, Bounds { size: 1 << 30, ..default.files });
        assert_eq!(keep.caches, Bounds { age: Duration::from_secs(43_200), size: 512 << 20 });
        assert_eq!(keep.images, Bounds { size: 1 << 40, ..default.images });
        assert_eq!(keep.build_cache, default.build_cache);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let text = "keep:\n  runs: 5m\n  files: soon\n  caches: 10gb\n  images: {old: 1d}\n  cache: 1GiB\n";
        insta::assert_snapshot!(decoded(text).1.join("\n"));
        insta::assert_snapshot!(decoded("keeps: {}\n").1.join("\n"));
    }
}
