//! The pool from which a cluster takes the addresses of its overlay networks.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

const fn net(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// Where private networks may lie: RFC 1918, and the shared range of RFC 6598.
const PRIVATE: [Ipv4Net; 4] =
    [net([10, 0, 0, 0], 8), net([172, 16, 0, 0], 12), net([192, 168, 0, 0], 16), net([100, 64, 0, 0], 10)];

/// The bridges that Docker makes on every machine, unless its configuration says otherwise.
pub const DOCKER_BRIDGES: [(&str, Ipv4Net); 2] =
    [("docker0", net([172, 17, 0, 0], 16)), ("docker_gwbridge", net([172, 18, 0, 0], 16))];

/// The fewest networks that a pool must have room for: the engine's own, one for each environment
/// that shares the cluster, and the old ones while networks are replaced.
pub const NETWORKS_LEAST: u32 = 16;

/// The longest prefix of a network. Each instance takes an address of it, and each machine one more.
pub const SUBNET_LONGEST: u8 = 26;

/// The shortest prefix of a network.
pub const SUBNET_SHORTEST: u8 = 16;

/// Reads a range of IPv4 addresses, such as `10.200.0.0/13`.
///
/// # Errors
/// When the text has another form, or its address is not the first one of the range.
pub fn range(text: &str) -> Result<Ipv4Net, BadRange> {
    let net: Ipv4Net = text.parse().map_err(|_| BadRange::Form(text.to_owned()))?;
    match net.trunc() {
        right if right == net => Ok(net),
        right => Err(BadRange::HostBits { given: text.to_owned(), right }),
    }
}

/// Whether two ranges have an address in common.
pub fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    /// It has another form.
    #[error("`{0}` is not a range of IPv4 addresses; write it as `10.200.0.0/13`")]
    Form(String),
    /// Its address lies within the range instead of at its start.
    #[error("`{given}` does not start at the first address of the range; write `{right}`")]
    HostBits {
        /// The text given.
        given: String,
        /// The range that contains it.
        right: Ipv4Net,
    },
}

/// The addresses of a cluster's overlay networks: each network gets a part of `pool`.
///
/// The engine fixes them when the cluster is founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct AddressPool {
    pool: Ipv4Net,
    subnet: u8,
}

/// What a configuration file has.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(default = "default_pool")]
    pool: String,
    #[serde(default = "default_subnet")]
    subnet: u8,
}

fn default_pool() -> String {
    AddressPool::default().pool.to_string()
}

fn default_subnet() -> u8 {
    AddressPool::default().subnet
}

/// Why a pool can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPool {
    /// It is not a range of addresses.
    #[error(transparent)]
    Range(#[from] BadRange),
    /// Addresses of the internet, or reserved ones.
    #[error(
        "the pool {0} is not private: choose one in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10"
    )]
    Public(Ipv4Net),
    /// Docker uses them on every machine.
    #[error(
        "the pool {pool} overlaps {bridge}, Docker's bridge `{name}` on every machine: choose another range"
    )]
    Bridge {
        /// The pool.
        pool: Ipv4Net,
        /// The bridge.
        name: &'static str,
        /// The bridge's range.
        bridge: Ipv4Net,
    },
    /// Networks of a size that is not allowed.
    #[error("networks of /{0} are not possible: `subnet` must be from {SUBNET_SHORTEST} to {SUBNET_LONGEST}")]
    Subnet(u8),
    /// Too few networks.
    #[error("{}", small(*.pool, *.subnet, *.networks))]
    Small {
        /// The pool.
        pool: Ipv4Net,
        /// The prefix of a network.
        subnet: u8,
        /// How many of them fit.
        networks: u32,
    },
}

fn small(pool: Ipv4Net, subnet: u8, networks: u32) -> String {
    let what = if networks == 1 { "network" } else { "networks" };
    let prefix = subnet.saturating_sub(4);
    format!(
        "the pool {pool} has room for {networks} {what} of /{subnet}, but a cluster needs {NETWORKS_LEAST}: \
         use a pool of /{prefix} or larger, or smaller networks"
    )
}

impl AddressPool {
    /// A pool that is cut into networks of `subnet` bits.
    ///
    /// # Errors
    /// When the pool is too small, not private, or in use on every machine.
    pub fn new(pool: Ipv4Net, subnet: u8) -> Result<Self, BadPool> {
        if !PRIVATE.iter().any(|private| private.contains(&pool)) {
            return Err(BadPool::Public(pool));
        }
        if let Some((name, bridge)) = DOCKER_BRIDGES.into_iter().find(|(_, bridge)| overlap(*bridge, pool)) {
            return Err(BadPool::Bridge { pool, name, bridge });
        }
        if !(SUBNET_SHORTEST..=SUBNET_LONGEST).contains(&subnet) {
            return Err(BadPool::Subnet(subnet));
        }
        // A private pool has at least 8 bits, so that the shift stays below 32.
        let networks = match subnet.checked_sub(pool.prefix_len()) {
            Some(bits) => 1 << bits,
            None => 0,
        };
        if networks < NETWORKS_LEAST {
            return Err(BadPool::Small { pool, subnet, networks });
        }
        Ok(Self { pool, subnet })
    }

    /// All addresses of the pool.
    pub fn pool(self) -> Ipv4Net {
        self.pool
    }

    /// The prefix of each network, in bits.
    pub fn subnet(self) -> u8 {
        self.subnet
    }
}

impl Default for AddressPool {
    /// 2,048 networks of 254 addresses, where few VPCs lie.
    fn default() -> Self {
        Self { pool: net([10, 200, 0, 0], 13), subnet: 24 }
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in networks of /{}", self.pool, self.subnet)
    }
}

impl TryFrom<Wire> for AddressPool {
    type Error = BadPool;

    fn try_from(wire: Wire) -> Result<Self, BadPool> {
        Self::new(range(&wire.pool)?, wire.subnet)
    }
}

impl From<AddressPool> for Wire {
    fn from(pool: AddressPool) -> Self {
        Self { pool: pool.pool.to_string(), subnet: pool.subnet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str, subnet: u8) -> Result<AddressPool, String> {
        let range = range(text).map_err(|error| error.to_string())?;
        AddressPool::new(range, subnet).map_err(|error| error.to_string())
    }

    #[test]
    fn a_range_starts_at_its_first_address() {
        for bad in ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0/8", "::/8", "a/8"] {
            assert_eq!(range(bad), Err(BadRange::Form(bad.to_owned())));
        }
        let error = range("10.1.2.3/16").expect_err("host bits");
        assert!(error.to_string().ends_with("write `10.1.0.0/16`"), "{error}");
    }

    #[test]
    fn a_pool_that_can_t_serve_a_cluster_is_refused_with_its_reason() {
        for (text, subnet, reason) in [
            ("8.8.0.0/16", 24, "is not private"),
            ("0.0.0.0/0", 24, "is not private"),
            ("10.0.0.0/7", 24, "is not private"),
            ("172.16.0.0/12", 24, "`docker0`"),
            ("172.18.4.0/22", 26, "`docker_gwbridge`"),
            ("10.200.0.0/13", 15, "from 16 to 26"),
            ("10.200.0.0/13", 27, "from 16 to 26"),
            ("10.200.0.0/13", 0, "from 16 to 26"),
            ("10.200.0.0/21", 24, "room for 8 networks of /24"),
            ("10.200.0.0/24", 24, "room for 1 network of /24"),
            ("10.200.0.0/25", 24, "room for 0 networks of /24"),
        ] {
            let error = pool(text, subnet).expect_err(text);
            assert!(error.contains(reason), "{text} {subnet}: {error}");
        }
        for (text, subnet) in
            [("10.200.0.0/13", 24), ("10.200.0.0/20", 24), ("192.168.0.0/16", 20), ("100.64.0.0/10", 26)]
        {
            pool(text, subnet).expect(text);
        }
    }

    #[test]
    fn the_default_is_a_pool_that_is_accepted() {
        let default = AddressPool::default();
        assert_eq!(AddressPool::new(default.pool(), default.subnet()), Ok(default));
    }

    #[test]
    fn ranges_overlap_when_one_contains_the_other() {
        let overlaps = |a: &str, b: &str| overlap(range(a).expect(a), range(b).expect(b));
        for (a, b, expected) in [
            ("10.0.0.0/8", "10.200.0.0/13", true),
            ("10.200.0.0/13", "10.207.255.0/24", true),
            ("10.200.0.0/13", "10.208.0.0/16", false),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "10.1.0.0/16", true),
        ] {
            assert_eq!((overlaps(a, b), overlaps(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
