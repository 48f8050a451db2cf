//! The starters: a small, working infra repository, which is the project's own root.

use crate::model::name::ProjectName;

macro_rules! starters {
    ($($path:literal),* $(,)?) => {
        /// Paths and texts of the root's files.
        const FILES: &[(&str, &str)] = &[$(($path, include_str!(concat!("../../", $path)))),*];
    };
}

starters![
    "fleetwright.yaml",
    "pipelines/web.yaml",
    "services/load.yaml",
    "services/web.yaml",
    "stacks/cluster.yaml",
    "templates/cloud-config/agent.yaml",
    "templates/cloud-config/announce.yaml",
    "templates/cloud-config/base.yaml",
    "templates/cloud-config/control.yaml",
    "templates/cloud-config/docker.yaml",
    "templates/cloud-config/etcd.yaml",
    "templates/cloud-config/flatcar/agent.yaml",
    "templates/cloud-config/flatcar/announce.yaml",
    "templates/cloud-config/flatcar/base.yaml",
    "templates/cloud-config/flatcar/control.yaml",
    "templates/cloud-config/flatcar/docker.yaml",
    "templates/cloud-config/flatcar/etcd.yaml",
    "templates/cloud-config/flatcar/reboot.yaml",
    "templates/cloud-config/flatcar/worker.yaml",
    "templates/cloud-config/machine.yaml",
    "templates/cloud-config/reboot.yaml",
    "templates/cloud-config/worker.yaml",
    "templates/cloudformation/group.yaml",
    "templates/cloudformation/network.yaml",
    "templates/scripts/agent.sh",
    "templates/scripts/announce.sh",
    "templates/scripts/load.sh",
    "templates/units/load.service",
];

macro_rules! pipeline_server {
    ($($path:literal),* $(,)?) => {
        /// Paths and texts of the files that add a machine for the pipeline server.
        const PIPELINE_SERVER: &[(&str, &str)] =
            &[$(($path, include_str!(concat!("../../examples/ci/", $path)))),*];
    };
}

pipeline_server![
    "stacks/ci.yaml",
    "templates/cloud-config/ci.yaml",
    "templates/cloudformation/ci.yaml",
    "templates/scripts/infra.sh",
    "templates/scripts/journal-volume.sh",
];

/// The files that add a machine for the pipeline server to a repository of `project`.
pub fn pipeline_server(project: &ProjectName) -> Vec<(&'static str, String)> {
    let own = |text: &str| text.replace(":shop/infra.git", &format!(":{project}/infra.git"));
    PIPELINE_SERVER.iter().map(|(path, text)| (*path, own(text))).collect()
}

/// The files of a new repository for `project`: path, relative to its root, and text.
pub fn files(project: &ProjectName) -> Vec<(&'static str, String)> {
    let variable = project.as_str().to_ascii_uppercase().replace('-', "_");
    FILES
        .iter()
        .map(|(path, text)| {
            // Templates get the project's name when they are rendered.
            let text = if path.starts_with("templates/") {
                (*text).to_owned()
            } else {
                text.replace("project: demo", &format!("project: {project}"))
                    .replace("demo/web", &format!("{project}/web"))
                    .replace("DEMO_", &format!("{variable}_"))
            };
            (*path, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_root_repository_is_a_starter() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = vec!["fleetwright.yaml".to_owned()];
        for folder in ["pipelines", "services", "stacks", "templates"] {
            walk(root, folder, &mut found);
        }
        found.sort();
        let known: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(found, known);
    }

    fn walk(root: &Path, folder: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(root.join(folder)).expect("the folder is there").flatten() {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() { walk(root, &path, found) } else { found.push(path) }
        }
    }
}
