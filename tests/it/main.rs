//! The integration tests: one binary, a file per capability.

mod boot;
mod cloud_config_check;
mod cloud_config_convert;
mod cloud_config_oracles;
mod cluster_contract;
mod contract;
mod docs;
mod fake_cloud;
mod faults;
mod init;
mod journey;
mod local_cloud;
mod pipeline_images;
mod pipeline_serve;
mod render;
mod secrets;
mod stacks;
mod stacks_killed;
mod stacks_walkthrough;
mod support;
mod template_check;
mod unit_check;
mod validate;
