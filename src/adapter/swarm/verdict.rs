//! When a rollout has succeeded or failed, where the engine does not say so. Pure.
//!
//! The engine judges updates while they are under way, and nothing else: it starts the instances
//! of a new service again and again for ever, and has no time limit for an update that waits for
//! a machine, an image or a port.

use std::time::Duration;

use crate::model::service::{Port, Scale, ServiceSpec};

/// How often one instance may fail before its revision has failed. A first instance may have to
/// wait for another service that starts at the same time.
pub const ATTEMPTS: u32 = 3;

/// How long machines may take to pull an image and to create its containers.
const PULL: Duration = Duration::from_secs(5 * 60);
/// How long the engine takes for each batch beyond what the service's own settings ask for.
const OVERHEAD: Duration = Duration::from_secs(10);

/// What is known of a revision's instances at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// How long ago its rollout began.
    pub age: Duration,
    /// How many instances there should be.
    pub desired: u32,
    /// How long each healthy instance has been healthy.
    pub healthy: Vec<Duration>,
    /// How often the instance that failed most often has failed.
    pub failures: u32,
}

/// What a rollout is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long an instance must have been healthy.
    pub monitor: Duration,
    /// How long the rollout may take.
    pub deadline: Duration,
}

impl Limits {
    /// The limits of a service's rollout, to `desired` instances.
    pub fn of(spec: &ServiceSpec, desired: u32) -> Self {
        let monitor = spec.update.monitor;
        Self { monitor, deadline: spec.update.deadline.unwrap_or_else(|| deadline(spec, desired)) }
    }
}

/// How long a rollout may take unless its service says so: what its health check, `monitor` and
/// `drain` allow each batch to take, and the time to pull the image.
fn deadline(spec: &ServiceSpec, desired: u32) -> Duration {
    let healthy = spec.health.as_ref().map_or(Duration::ZERO, |check| {
        check.start_period + (check.interval + check.timeout) * check.retries.max(1)
    });
    // Where an old instance must stop first, its replacement waits for that.
    let exclusive =
        spec.scale == Scale::EveryMachine || spec.ports.iter().any(|port: &Port| port.host.is_some());
    let stop = if exclusive { spec.drain } else { Duration::ZERO };
    let batches = desired.div_ceil(spec.update.parallel.max(1)).max(1);
    PULL + (healthy + spec.update.monitor + stop + OVERHEAD) * batches
}

/// The result of a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It is not known yet.
    #[default]
    Open,
    /// All instances have been healthy for long enough.
    Succeeded,
    /// An instance keeps failing.
    KeepsFailing {
        /// How often it has failed.
        times: u32,
    },
    /// The deadline has passed.
    Expired {
        /// How long the rollout was allowed to take.
        deadline: Duration,
    },
}

/// Judges a rollout.
pub fn judge(progress: &Progress, limits: Limits) -> Verdict {
    let steady = progress.healthy.iter().filter(|time| **time >= limits.monitor).count();
    if steady >= progress.desired as usize {
        Verdict::Succeeded
    } else if progress.failures >= ATTEMPTS {
        Verdict::KeepsFailing { times: progress.failures }
    } else if progress.age >= limits.deadline {
        Verdict::Expired { deadline: limits.deadline }
    } else {
        Verdict::Open
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::deployment;
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const LIMITS: Limits = Limits { monitor: s(5), deadline: s(60) };

    #[test]
    fn instances_must_stay_healthy_for_the_monitor() {
        let progress = |healthy: &[u64]| Progress {
            age: s(20),
            desired: 2,
            healthy: healthy.iter().map(|time| s(*time)).collect(),
            failures: 0,
        };
        assert_eq!(judge(&progress(&[9]), LIMITS), Verdict::Open);
        assert_eq!(judge(&progress(&[9, 4]), LIMITS), Verdict::Open);
        assert_eq!(judge(&progress(&[9, 5]), LIMITS), Verdict::Succeeded);
        assert_eq!(judge(&Progress { desired: 0, ..progress(&[]) }, LIMITS), Verdict::Succeeded);
    }

    #[test]
    fn a_deadline_follows_from_the_settings() {
        let mut spec = deployment("web", 'a').spec;
        let of_two = Limits::of(&spec, 2).deadline;
        assert!(of_two > Limits::of(&spec, 1).deadline, "two batches take longer than one");
        spec.update.parallel = 2;
        assert_eq!(Limits::of(&spec, 2), Limits::of(&spec, 1));
        spec.update.deadline = Some(s(90));
        assert_eq!(Limits::of(&spec, 1_000).deadline, s(90));
    }

    proptest! {
        /// However a rollout goes, it ends, and time alone never takes a result back.
        #[test]
        fn every_rollout_ends(
            desired in 0u32..5,
            healthy in proptest::collection::vec(0u64..20, 0..5),
            failures in 0u32..6,
            age in 0u64..200,
        ) {
            let at = |age: u64| {
                let healthy = healthy.iter().map(|time| s(*time)).collect();
                judge(&Progress { age: s(age), desired, healthy, failures }, LIMITS)
            };
            prop_assert_ne!(at(60 + age), Verdict::Open);
            if at(age) != Verdict::Open {
                prop_assert_eq!(at(age), at(age + 1));
            }
        }
    }
}
