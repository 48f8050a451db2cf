//! Our plugin for LocalStack, put into its Python environment as an installed distribution:
//! nothing is built and nothing downloaded.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::error::LocalError;
use super::home::{make_dir, remove_dir, write_file};
use super::venv::hash;

macro_rules! file {
    ($path:literal) => {
        ($path, include_str!(concat!("localstack/", $path)))
    };
}

/// Says which functions LocalStack is to call.
const PROJECT: &str = include_str!("localstack/pyproject.toml");

/// The package's files, by their path below site-packages.
const PLUGIN: &[(&str, &str)] = &[
    file!("fleetwright_localstack/__init__.py"),
    file!("fleetwright_localstack/cloudformation/__init__.py"),
    file!("fleetwright_localstack/cloudformation/autoscaling.py"),
    file!("fleetwright_localstack/cloudformation/change_sets.py"),
    file!("fleetwright_localstack/cloudformation/common.py"),
    file!("fleetwright_localstack/cloudformation/iam.py"),
    file!("fleetwright_localstack/cloudformation/launch_template.py"),
    file!("fleetwright_localstack/cloudformation/network.py"),
    file!("fleetwright_localstack/cloudformation/registry.py"),
    file!("fleetwright_localstack/cloudformation/stacks.py"),
    file!("fleetwright_localstack/groups.py"),
    file!("fleetwright_localstack/hooks.py"),
    file!("fleetwright_localstack/lifecycle.py"),
    file!("fleetwright_localstack/moto_patches.py"),
    file!("fleetwright_localstack/routes.py"),
    file!("fleetwright_localstack/service.py"),
    file!("fleetwright_localstack/state.py"),
];

const DISTRIBUTION: &str = "fleetwright_localstack-0.1.0.dist-info";

/// Writes the plugin unless the one there has the same content. Files of an older one go.
///
/// # Errors
/// When the environment can't be written.
pub fn install(venv: &Path) -> Result<(), LocalError> {
    let marker = venv.join("fleetwright.plugin-hash");
    let wanted = hash(&[&[("pyproject.toml", PROJECT)], PLUGIN].concat());
    if fs::read_to_string(&marker).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    let site = venv.join("lib/python3.11/site-packages");
    let tops: BTreeSet<&str> = PLUGIN.iter().filter_map(|(path, _)| path.split('/').next()).collect();
    for top in tops {
        remove_dir(&site.join(top))?;
    }
    let entry_points = entry_points(PROJECT);
    let metadata = "Metadata-Version: 2.1\nName: fleetwright-localstack\nVersion: 0.1.0\n";
    let distribution =
        [("METADATA", metadata), ("entry_points.txt", entry_points.as_str()), ("INSTALLER", "fleetwright\n")];
    let distribution = distribution.map(|(name, text)| (format!("{DISTRIBUTION}/{name}"), text));
    let package = PLUGIN.iter().map(|(path, text)| ((*path).to_owned(), *text));
    for (path, text) in package.chain(distribution) {
        let path = site.join(path);
        if let Some(parent) = path.parent() {
            make_dir(parent)?;
        }
        write_file(&path, text)?;
    }
    write_file(&marker, wanted)
}

/// The entry points of a pyproject.toml, as an installed distribution lists them.
fn entry_points(project: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in project.lines().map(str::trim) {
        if line.starts_with('[') {
            let group = line.strip_prefix("[project.entry-points.\"").and_then(|l| l.strip_suffix("\"]"));
            inside = group.is_some();
            if let Some(group) = group {
                text.push_str(&format!("[{group}]\n"));
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            text.push_str(&line.replace('"', ""));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_plugin_is_embedded() {
        fn walk(dir: &Path, found: &mut BTreeSet<String>, root: &Path) {
            for entry in fs::read_dir(dir).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, found, root);
                } else if path.extension().is_some_and(|e| e != "pyc") {
                    found.insert(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/local/localstack");
        let mut found = BTreeSet::new();
        walk(&root.join("fleetwright_localstack"), &mut found, &root);
        let embedded: BTreeSet<String> = PLUGIN.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(embedded, found);
    }

    #[test]
    fn entry_points_are_those_of_the_project() {
        let project = "[project]\nname = \"x\"\n\n[project.entry-points.\"a.b\"]\n\"c:default\" = \"m:f\"\n# why\nd = \"m.n:g\"\n\n[build-system]\nrequires = []\n";
        assert_eq!(entry_points(project), "[a.b]\nc:default = m:f\nd = m.n:g\n");
        assert!(entry_points(PROJECT).contains("autoscaling"));
    }
}
