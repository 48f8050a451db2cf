//! Which release of Debian the machines of a test run.
//!
//! Debian 12, unless FLEETWRIGHT_TEST_CONTROL or FLEETWRIGHT_TEST_WORKERS says `trixie`:
//! `make test-mixed` runs the tests of clusters with both mixtures.

use fleetwright::local::image::Release;
use fleetwright::model::machine::Role;

/// The release of the machines of `role`.
pub fn of(role: Role) -> Release {
    let variable = match role {
        Role::Control => "FLEETWRIGHT_TEST_CONTROL",
        Role::Worker => "FLEETWRIGHT_TEST_WORKERS",
    };
    match std::env::var(variable) {
        Ok(name) if !name.is_empty() => name.parse().unwrap_or_else(|why| panic!("{variable}: {why}")),
        _ => Release::default(),
    }
}

/// The stacks of the project, with the images of both roles' releases.
pub fn stacks(text: &str) -> String {
    let (control, workers) =
        text.split_once("\nworkers:\n").expect("stacks of control machines and of workers");
    let image = |text: &str, role| match of(role) {
        Release::Bookworm => text.to_owned(),
        Release::Trixie => {
            let [own, other] =
                [12, 13].map(|number| format!("${{ssm:/aws/service/debian/release/{number}/latest/amd64}}"));
            assert_eq!(text.matches(&own).count(), 1, "one machine image for each role");
            text.replace(&own, &other)
        }
    };
    format!("{}\nworkers:\n{}", image(control, Role::Control), image(workers, Role::Worker))
}
