//! Autoscaling groups.

use async_trait::async_trait;

use super::cloud::CloudError;
use crate::model::group::{Capacity, Group};
use crate::model::name::MachineId;

/// Autoscaling groups of one account and region. Every method may be called again after any failure.
#[async_trait]
pub trait Groups: Send + Sync {
    /// The groups that carry every one of `tags` with that value, sorted by name.
    async fn groups(&self, tags: &[(&str, &str)]) -> Result<Vec<Group>, CloudError>;

    /// One group; `None` when it does not exist.
    async fn group(&self, name: &str) -> Result<Option<Group>, CloudError>;

    /// Sets how many machines a group has, and may have.
    async fn set_capacity(&self, group: &str, capacity: Capacity) -> Result<(), CloudError>;

    /// Begins to terminate an instance of a group, hooks included. `decrement` also lowers
    /// the desired capacity by one, so that the group does not replace it. One that is
    /// gone or going already is no error.
    async fn terminate(&self, instance: &MachineId, decrement: bool) -> Result<(), CloudError>;

    /// The names of the group's hooks that hold an instance before it is terminated.
    async fn termination_hooks(&self, group: &str) -> Result<Vec<String>, CloudError>;

    /// Lets an instance that waits in `hook` go on. One that does not wait (any more) is no error.
    async fn complete_lifecycle(
        &self,
        group: &str,
        hook: &str,
        instance: &MachineId,
    ) -> Result<(), CloudError>;

    /// Restarts the clock of an instance that waits in `hook`.
    async fn heartbeat(&self, group: &str, hook: &str, instance: &MachineId) -> Result<(), CloudError>;

    /// Puts a tag on the group itself (never on its instances).
    async fn put_tag(&self, group: &str, key: &str, value: &str) -> Result<(), CloudError>;

    /// Takes a tag off the group; one that is not there is no error.
    async fn delete_tag(&self, group: &str, key: &str) -> Result<(), CloudError>;
}
