//! A service of units as the engine gets it: a container that stands for the units, and in which everything lies that
//! its machine's agent needs to run them. Pure.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::spec::PROBE_IN_CONTAINER;
use crate::model::container::{ContainerSettings, LogLimits, Reservations};
use crate::model::mount::{FileMount, MODE, Owned};
use crate::model::role::{self, TOKEN_FILE};
use crate::model::service::{Deployment, HealthCheck, HealthProbe, Limits};
use crate::model::unit::{ORDER_VERSION, UnitOrder, UnitSecret};

/// The label of containers that stand for units, with the digest of these.
pub const UNITS: &str = "fleetwright.units";
/// The file in them that says what to run.
pub const ORDER_FILE: &str = "/.fleetwright/unit.json";
/// The folder on every machine with the agent's socket for them. It stays when the machine restarts.
pub const DOOR_ON_MACHINE: &str = "/var/lib/fleetwright/units";
/// The socket's name.
pub const DOOR: &str = "agent.sock";
/// Where a container sees the folder.
pub const DOOR_IN_CONTAINER: &str = "/.fleetwright/units";

/// How long a question for health may take. The helper ends before.
const PROBE_LIMIT: Duration = Duration::from_secs(600);
/// Time between two questions: the agent holds an answer back until something changes.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
/// What is kept of a unit's output beside the journal.
const LOG: LogLimits = LogLimits { max_size_bytes: 2 << 20, max_files: 2 };

/// The deployment as the engine runs it: what it is, unless it is made of units.
pub fn placed(deployment: &Deployment) -> Cow<'_, Deployment> {
    let Some(units) = &deployment.spec.units else { return Cow::Borrowed(deployment) };
    let mut placed = deployment.clone();
    let settings = &deployment.spec.container;
    let socket = format!("{DOOR_IN_CONTAINER}/{DOOR}");
    let command = |word: &str| vec![PROBE_IN_CONTAINER.to_owned(), word.to_owned(), socket.clone()];
    let secrets = settings.secrets.iter().map(|secret| UnitSecret {
        name: secret.target.rsplit('/').next().unwrap_or_default().to_owned(),
        target: secret.target.clone(),
        env: secret.env.clone(),
    });
    // Units share the network of their machine, where the agent knows them by their token.
    let role = settings.aws_role.as_ref().map(|_| UnitSecret {
        name: TOKEN_FILE.to_owned(),
        target: format!("/run/secrets/{TOKEN_FILE}"),
        env: Some("AWS_CONTAINER_AUTHORIZATION_TOKEN".to_owned()),
    });
    let mut environment = deployment.spec.environment.clone();
    environment.extend(role.iter().map(|_| ("AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned(), role::uri())));
    let Limits { memory_bytes, cpu_millis } = deployment.spec.limits;
    let order = UnitOrder {
        version: ORDER_VERSION,
        units: units.clone(),
        environment,
        health: deployment.spec.health.clone(),
        memory_bytes,
        cpu_millis,
        stop: deployment.spec.drain,
        secrets: secrets.chain(role).collect(),
        files: settings.files.iter().map(|file| file.target.clone()).collect(),
    };
    // Every key is a string and every number is finite, so there is nothing that JSON can't hold.
    let content = serde_json::to_string(&order).unwrap_or_default();
    let mut files = settings.files.clone();
    let owned = Owned { mode: 0o400, ..Owned::default() };
    files.push(FileMount { target: ORDER_FILE.to_owned(), content, owned });
    let kept = Reservations { memory_bytes, cpu_millis: None };
    placed.spec.container = ContainerSettings {
        entrypoint: command("unit"),
        labels: [(UNITS.to_owned(), deployment.digest.to_string())].into(),
        logging: Some(LOG),
        restart: settings.restart,
        // The units' memory, as the placeholder itself needs next to none.
        reservations: settings.reservations.or(Some(kept).filter(|_| memory_bytes.is_some())),
        spread: settings.spread.clone(),
        max_per_machine: settings.max_per_machine,
        aws_role: settings.aws_role.clone(),
        secrets: settings
            .secrets
            .iter()
            .map(|secret| {
                let mut plain = secret.clone();
                plain.env = None;
                // Everybody on the machine can look at paths, unlike in a container. systemd hands credentials and
                // variables over as root.
                if plain.owned.mode == MODE {
                    plain.owned.mode = 0o400;
                }
                plain
            })
            .collect(),
        files,
        ..ContainerSettings::default()
    };
    placed.spec.environment.clear();
    placed.spec.limits = Limits::default();
    placed.spec.health = Some(HealthCheck {
        probe: HealthProbe::Command { command: command("unit-health") },
        interval: PROBE_PAUSE,
        timeout: PROBE_LIMIT,
        // The agent counts failures itself.
        retries: 1,
        start_period: Duration::ZERO,
    });
    Cow::Owned(placed)
}

/// The image of placeholders: nothing at all. The helper is mounted into it.
///
/// It is named by its id, which follows from its content, so every machine makes the same and none asks a registry.
pub fn image() -> String {
    format!("sha256:{}", hex(&Sha256::digest(configuration())))
}

/// The image's configuration, as the OCI image specification describes it.
fn configuration() -> String {
    let layer = hex(&Sha256::digest(LAYER));
    format!(
        "{{\"architecture\":\"amd64\",\"config\":{{}},\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\
         \"diff_ids\":[\"sha256:{layer}\"]}}}}"
    )
}

/// A tar archive without files: two blocks of zeros.
const LAYER: [u8; 1024] = [0; 1024];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The image as an archive that the engine loads.
///
/// # Errors
/// When it can't be written into memory.
pub fn archive() -> io::Result<Vec<u8>> {
    let configuration = configuration();
    let name = format!("{}.json", hex(&Sha256::digest(&configuration)));
    let manifest = format!(
        "[{{\"Config\":\"{name}\",\"RepoTags\":[\"fleetwright/units:1\"],\"Layers\":[\"layer.tar\"]}}]"
    );
    let mut archive = tar::Builder::new(Vec::new());
    let parts: [(&str, &[u8]); 3] =
        [(&name, configuration.as_bytes()), ("layer.tar", &LAYER), ("manifest.json", manifest.as_bytes())];
    for (path, content) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content)?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It stands in what managers keep of services: another one would replace every unit.
    #[test]
    fn the_image_of_placeholders_stays_what_it_is() {
        insta::assert_snapshot!(image());
    }
}
