//! Our plugin for LocalStack, put into its Python environment as an installed distribution:
//! nothing is built and nothing downloaded.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::error::LocalError;
use super::home::{make_dir, remove_dir, write_file};
use super::venv::hash;

/// Says which functions LocalStack is to call.
const PROJECT: &str = include_str!("localstack/pyproject.toml");

/// The package's files, by their path below site-packages.
const PLUGIN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/plugin_files.rs"));

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
    fn a_changed_plugin_replaces_the_old_one() {
        let venv = tempfile::tempdir().unwrap();
        let site = venv.path().join("lib/python3.11/site-packages");
        fs::create_dir_all(site.join("fleetwright_localstack")).unwrap();
        fs::write(site.join("fleetwright_localstack/old.py"), "").unwrap();
        install(venv.path()).unwrap();
        assert!(site.join("fleetwright_localstack/__init__.py").is_file());
        assert!(site.join(DISTRIBUTION).join("entry_points.txt").is_file());
        assert!(!site.join("fleetwright_localstack/old.py").exists());
        // The same again changes nothing.
        fs::write(site.join("fleetwright_localstack/__init__.py"), "touched").unwrap();
        install(venv.path()).unwrap();
        assert_eq!(fs::read_to_string(site.join("fleetwright_localstack/__init__.py")).unwrap(), "touched");
    }

    #[test]
    fn entry_points_are_those_of_the_project() {
        let project = "[project]\nname = \"x\"\n\n[project.entry-points.\"a.b\"]\n\"c:default\" = \"m:f\"\n# why\nd = \"m.n:g\"\n\n[build-system]\nrequires = []\n";
        assert_eq!(entry_points(project), "[a.b]\nc:default = m:f\nd = m.n:g\n");
        assert!(entry_points(PROJECT).contains("autoscaling"));
    }
}
