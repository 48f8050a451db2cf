//! Emulated instances, as the emulator's `/_fleetwright/instances` lists them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

/// All instances at one moment.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Instances {
    /// Differs after every change.
    pub revision: u64,
    /// The instances, terminated ones included for a while.
    pub instances: Vec<Instance>,
}

/// What EC2 says of an instance's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceLife {
    /// Asked for.
    Pending,
    /// Up, also while a termination hook waits.
    Running,
    /// On its way out.
    ShuttingDown,
    /// On its way to a stop; groups never stop instances.
    Stopping,
    /// Stopped; groups never stop instances.
    Stopped,
    /// Gone for good.
    Terminated,
}

/// Where a machine belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The VPC.
    pub vpc: &'a str,
    /// The VPC's range.
    pub cidr: Ipv4Net,
    /// The machine's address in it.
    pub address: Ipv4Addr,
}

/// An emulated instance.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Instance {
    /// Its id, such as `i-0d3c1f2a9b8e7d6c5`.
    pub id: String,
    /// Its life.
    pub state: InstanceLife,
    /// Its address in its subnet; none once it is gone.
    #[serde(default)]
    pub private_ip: Option<Ipv4Addr>,
    /// Its VPC.
    #[serde(default)]
    pub vpc_id: Option<String>,
    /// The VPC's range; none once the VPC is gone.
    #[serde(default)]
    pub vpc_cidr: Option<Ipv4Net>,
    /// Its availability zone.
    pub zone: String,
    /// Its region.
    pub region: String,
    /// The account it belongs to.
    pub account: String,
    /// Its autoscaling group, if it has one.
    #[serde(default)]
    pub group: Option<String>,
    /// Its state in the group, such as `InService` or `Terminating:Wait`.
    #[serde(default)]
    pub lifecycle: Option<String>,
    /// Where the group is taking it: `InService` or `Terminated`.
    #[serde(default)]
    pub target_lifecycle: Option<String>,
    /// The machine image it was launched from.
    #[serde(default)]
    pub image_id: Option<String>,
    /// Its type.
    #[serde(default)]
    pub instance_type: Option<String>,
    /// Its user data, base64.
    #[serde(default)]
    pub user_data: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The role of its instance profile.
    #[serde(default)]
    pub role: Option<String>,
    /// When it was launched, RFC 3339.
    #[serde(default)]
    pub launched_at: Option<String>,
}

impl Instance {
    /// Whether a machine belongs to it. An instance that waits in a termination hook is
    /// still running: it keeps its machine until the emulator says that it is terminated.
    pub fn wants_machine(&self) -> bool {
        matches!(self.state, InstanceLife::Pending | InstanceLife::Running) && self.place().is_some()
    }

    /// Where its machine belongs.
    pub fn place(&self) -> Option<Place<'_>> {
        Some(Place { vpc: self.vpc_id.as_deref()?, cidr: self.vpc_cidr?, address: self.private_ip? })
    }

    /// Whether it is gone for good.
    pub fn is_terminated(&self) -> bool {
        self.state == InstanceLife::Terminated
    }
}
