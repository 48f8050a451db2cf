//! What `agent publish` did.

use crate::model::published::PublishedAgent;

/// The lines for people.
pub fn human(agent: &PublishedAgent, environment: &str, changed: bool) -> String {
    let (version, sum) = (&agent.version, agent.sha256.short());
    let done = format!("Published agent {version} ({sum}) for `{environment}`; fleetwright.yaml names it");
    match changed {
        true => format!(
            "{done} now.\n next: commit the change; `fleetwright plan` shows which machines it replaces\n"
        ),
        false => format!("{done} already.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_left_to_do() {
        let agent = PublishedAgent {
            version: "1.4.0".parse().expect("a version"),
            sha256: "0a".repeat(32).parse().expect("a checksum"),
        };
        insta::assert_snapshot!(human(&agent, "live", true), @r"
        Published agent 1.4.0 (0a0a0a0a0a0a) for `live`; fleetwright.yaml names it now.
         next: commit the change; `fleetwright plan` shows which machines it replaces
        ");
        insta::assert_snapshot!(
            human(&agent, "live", false),
            @"Published agent 1.4.0 (0a0a0a0a0a0a) for `live`; fleetwright.yaml names it already."
        );
    }
}
