//! Values: what the repository says, what was observed, what shall be done.
//!
//! No I/O, no clock, no async; only [`crate::source`] may be imported.

pub mod access;
pub mod address;
pub mod audit;
pub mod bucket;
pub mod changes;
pub mod cluster;
pub mod container;
pub mod deployed;
pub mod desired;
pub mod drift;
pub mod duration;
pub mod etcd;
pub mod feature;
pub mod founding;
pub mod group;
pub mod identity;
pub mod image;
pub mod java_regex;
pub mod line;
pub mod local_cloud;
pub mod lock;
pub mod machine;
pub mod member;
pub mod name;
pub mod nested;
pub mod parameter;
pub mod pipeline;
pub mod principal;
pub mod project;
pub mod published;
pub mod reboot;
pub mod redact;
pub mod run;
pub mod secret;
pub mod service;
pub mod setting;
pub mod stack;
pub mod stack_policy;
pub mod standing;
pub mod token;
pub mod window;
