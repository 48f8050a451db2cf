//! The integration tests: one binary, a file per capability.

#![allow(clippy::disallowed_methods, reason = "tests read what they wrote")]

mod access_api;
mod addresses;
mod agent_outage;
mod agent_reboots;
mod announce;
mod boot;
mod cloud_config_check;
mod cloud_config_convert;
mod cloud_config_oracles;
mod cluster_access;
mod cluster_contract;
mod cluster_credentials;
mod cluster_identity;
mod cluster_reboot;
mod cluster_records;
mod cluster_verdicts;
mod contract;
mod docs;
mod etcd;
mod fake_cloud;
mod faults;
mod faults_cluster;
mod faults_power;
mod faults_upgrade;
mod identity;
mod init;
mod journey;
mod links;
mod local_cloud;
mod names;
mod pipeline_images;
mod pipeline_serve;
mod render;
mod rights;
mod secrets;
mod security_docs;
mod shipped;
mod stacks;
mod stacks_killed;
mod stacks_walkthrough;
mod support;
mod template_check;
mod unit_check;
mod validate;
