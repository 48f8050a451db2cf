//! The local cloud: an emulated AWS, a registry, and one real systemd machine (a container)
//! per emulated instance.
//!
//! `local up` prepares what is slow once ([`venv`], [`image`], [`executable`]) and leaves one
//! background process, the [`supervisor`]. It starts LocalStack ([`emulator`]) and a
//! docker-registry ([`registry`]), and keeps the machines ([`machines`]) equal to the
//! emulated instances: the pure [`reconcile`] decides, with one rule above all: a machine
//! that vanished is a terminated instance, never resurrected. One that is off on purpose
//! ([`power`]) has a note that says so. Machines reach the emulator,
//! the registry and the metadata service ([`metadata`]) on the gateway of their network
//! ([`gateway`]).
//!
//! Nothing outside this module, its command and the tests knows that an emulator exists.

mod abandoned;
pub mod base_image;
pub mod boot;
pub mod emulator;
pub mod environment;
pub mod error;
pub mod executable;
pub mod gateway;
pub mod home;
pub mod image;
pub mod instance;
pub mod keys;
pub mod machines;
pub mod metadata;
pub mod plugin;
pub mod power;
pub mod process;
pub mod push;
pub mod reconcile;
pub mod registry;
pub mod state;
pub mod status;
pub mod sts;
pub mod supervisor;
pub mod up;
pub mod venv;

/// The region that the local cloud plays.
pub const REGION: &str = "eu-west-1";

/// The name under which machines know the host's side of their network.
pub const HOST_NAME: &str = "local-cloud.internal";
