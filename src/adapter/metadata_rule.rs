//! Keeps builds and containers away from the machine's metadata service, whose credentials are the machine's.
//!
//! The engine gives build containers its default bridge. Two rules refuse what comes from there
//! for link-local addresses: one for packets that are passed on, and one for a service on this
//! machine itself. On the machines of a cluster, where containers come from several bridges, everything that is passed
//! on is refused for the addresses at which AWS serves credentials, and nothing else: names and the time are also
//! served at link-local addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bollard::Docker;
use tokio::process::Command;

use crate::port::images::ImageError;

const LINK_LOCAL: &str = "169.254.0.0/16";
const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// How long the metadata service may take to accept a connection before there is none.
const PROBE: Duration = Duration::from_millis(500);
/// How long iptables may take.
const RULE: Duration = Duration::from_secs(10);
/// The name of the default bridge unless the engine says otherwise.
const BRIDGE: &str = "docker0";

/// Makes sure of the rules.
///
/// # Errors
/// When they can't be set and there is a metadata service that a build would reach.
pub(super) async fn ensure(docker: &Docker) -> Result<(), ImageError> {
    let network = docker.inspect_network("bridge", None).await.ok();
    let bridge = network
        .and_then(|network| network.options?.remove("com.docker.network.bridge.name"))
        .unwrap_or_else(|| BRIDGE.to_owned());
    ensure_for(&bridge).await
}

/// Makes sure of the rules for a bridge, or for all whose names begin with what stands before a `+`.
///
/// # Errors
/// When they can't be set and there is a metadata service that a build or step would reach.
pub(super) async fn ensure_for(bridge: &str) -> Result<(), ImageError> {
    for chain in ["DOCKER-USER", "INPUT"] {
        if let Err(reason) = rule(chain, bridge).await {
            if !is_there().await {
                return Ok(());
            }
            return Err(ImageError::Build {
                reason: format!(
                    "a build or step could reach this machine's metadata service at {} and take its credentials, and \
                     the rule that prevents it can't be set ({reason}): run `fleetwright serve` as root with \
                     iptables installed, or refuse {LINK_LOCAL} from {bridge} yourself",
                    SERVICE.ip()
                ),
                step: None,
            });
        }
    }
    Ok(())
}

/// Where AWS serves credentials: the metadata service, and what containers of other engines get.
const SERVED: [&str; 2] = ["169.254.169.254/32", "169.254.170.0/24"];
/// The engine's bridges: its own, and those of networks that people make.
const BRIDGES: [&str; 2] = ["docker+", "br-+"];

/// Makes sure that no container of this machine reaches the machine's credentials. The engine keeps the chain when it
/// starts again; what rewrites all rules, as a firewall does, removes them, so this is repeated.
///
/// # Errors
/// Why the rules can't be set.
pub async fn ensure_for_containers() -> Result<(), String> {
    for served in SERVED {
        checked("DOCKER-USER", &["-d", served]).await?;
        for bridge in BRIDGES {
            checked("INPUT", &["-i", bridge, "-d", served]).await?;
        }
    }
    Ok(())
}

async fn rule(chain: &str, bridge: &str) -> Result<(), String> {
    checked(chain, &["-i", bridge, "-d", LINK_LOCAL]).await
}

/// Makes sure of a rule that rejects what matches.
async fn checked(chain: &str, matching: &[&str]) -> Result<(), String> {
    let words = |action| {
        let words = ["-w", "5", action, chain].into_iter().chain(matching.iter().copied());
        words.chain(["-j", "REJECT"]).collect::<Vec<_>>()
    };
    if iptables(&words("-C")).await.is_ok() {
        return Ok(());
    }
    iptables(&words("-I")).await
}

async fn iptables(words: &[&str]) -> Result<(), String> {
    let mut command = Command::new("iptables");
    command.args(words).kill_on_drop(true).stdin(std::process::Stdio::null());
    let output = match tokio::time::timeout(RULE, command.output()).await {
        Ok(output) => output.map_err(|error| format!("iptables: {error}"))?,
        Err(_) => return Err("iptables does not end".into()),
    };
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(if told.is_empty() { format!("iptables: {}", output.status) } else { told })
}

/// Whether there is a metadata service.
async fn is_there() -> bool {
    matches!(tokio::time::timeout(PROBE, tokio::net::TcpStream::connect(SERVICE)).await, Ok(Ok(_)))
}
