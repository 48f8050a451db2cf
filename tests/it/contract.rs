//! The contract with CloudFormation: what the program promises about stacks, tried on a cloud that
//! fails, rolls back, protects and refuses as AWS does.
//!
//! Each test is a scenario that takes a [`Lab`]: a repository and a cloud of its own. The cloud is
//! a server of ministack or, where FLEETWRIGHT_TEST_AWS names a region, AWS itself (`make test-aws`).
//! Only resources that cost nothing or next to nothing are made.

mod changes;
mod cleanup;
mod cloud;
mod consequences;
mod drift;
mod failures;
mod lab;
mod nested;
mod others;
mod promises;
mod secrets;
mod settings;
mod taken;

use lab::{Kind, Lab, scenario, scenario_except};
