//! `apply` and `destroy` killed at random moments: the next one always goes on from there.
//!
//! FLEETWRIGHT_KILLS says how often (200 is the full form); each kill and what follows takes
//! about two seconds. The moments come from a fixed seed.

use std::process::Stdio;
use std::time::Duration;

use crate::stacks::Stacks;

/// Few enough for every run of the tests.
const KILLS: u32 = 12;
/// No command takes longer; a kill after its end is one of the moments too.
const LONGEST: u64 = 1200;

/// A small generator of numbers that look random (Knuth's MMIX constants).
pub struct Moments(pub u64);

impl Moments {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn what_was_killed_goes_on_when_it_is_run_again() {
    let kills = std::env::var("FLEETWRIGHT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let stacks = Stacks::up("killed", "10.75.");
    stacks.edit("stacks/cluster.yaml", "machines: 1", "machines: 0");
    stacks.ends(&["destroy", "-y"], 0);
    let mut moments = Moments(20_261_124);
    let mut label = "first".to_owned();
    let template = "templates/cloudformation/network.yaml";
    stacks.edit(template, "Everything within the network", &label);
    for kill in 0..kills {
        // Every third time all of it goes, so that creations are killed too.
        let command = if kill % 3 == 2 { "destroy" } else { "apply" };
        let next = format!("text {kill}");
        stacks.edit(template, &label, &next);
        label = next;
        let mut child = stacks
            .command(&[command, "-y"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let after = Duration::from_millis(moments.next(LONGEST));
        std::thread::sleep(after);
        child.kill().expect("killed");
        child.wait().expect("it ended");
        println!("kill {kill}: {command} after {after:?}");
        if command == "destroy" {
            stacks.ends(&["destroy", "-y"], 0);
        } else {
            stacks.ends(&["apply", "-y"], 0);
            stacks.ends(&["plan"], 0);
        }
    }
    stacks.ends(&["destroy", "-y"], 0);
}
