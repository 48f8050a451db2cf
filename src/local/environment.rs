//! The variables with which every other command uses the local cloud instead of AWS.

use super::error::LocalError;
use super::executable::Executable;
use super::home::CloudFiles;
use super::image::{self, Release};
use super::state::State;
use super::{HOST_NAME, REGION};

/// The variables of a cloud that is up, in the order in which they are printed.
///
/// # Errors
/// When the executable for the machines is not there.
pub fn variables(files: &CloudFiles, state: &State) -> Result<Vec<(&'static str, String)>, LocalError> {
    let executable = Executable::read(files).ok_or(LocalError::Emulator {
        doing: "reading which executable machines fetch",
        reason: "it was not prepared; `fleetwright local up` does that".into(),
    })?;
    let ports = state.ports;
    Ok(vec![
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", ports.emulator)),
        ("AWS_ACCESS_KEY_ID", "test".into()),
        ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ("AWS_REGION", REGION.into()),
        // Amazon's own command line reads only this one.
        ("AWS_DEFAULT_REGION", REGION.into()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("FLEETWRIGHT_AGENT_URL", format!("http://{HOST_NAME}:{}/fleetwright", ports.agent)),
        ("FLEETWRIGHT_AGENT_SHA256", executable.sha256),
        ("FLEETWRIGHT_MACHINE_IMAGE", state.ami.clone()),
        ("FLEETWRIGHT_MACHINE_IMAGE_BOOKWORM", image::ami(Release::Bookworm)),
        ("FLEETWRIGHT_MACHINE_IMAGE_TRIXIE", image::ami(Release::Trixie)),
        ("FLEETWRIGHT_REGISTRY_PUSH", format!("127.0.0.1:{}", ports.registry)),
        ("FLEETWRIGHT_REGISTRY_PULL", format!("{HOST_NAME}:{}", ports.registry)),
    ])
}

/// The variables as a shell reads them.
pub fn exports(variables: &[(&str, String)]) -> String {
    let quoted = |value: &str| value.replace('\'', "'\\''");
    variables.iter().map(|(name, value)| format!("export {name}='{}'\n", quoted(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_any_value() {
        assert_eq!(exports(&[("A", "it's".into())]), "export A='it'\\''s'\n");
    }
}
