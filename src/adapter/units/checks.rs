//! Health checks of units: asked from the machine, where they listen.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;
use tokio::time::timeout;

use crate::model::service::HealthProbe;
use crate::port::units::CheckHealth;

/// The helper does what it does in containers, with the same words.
pub struct Checks {
    /// Where the helper is on this machine.
    pub helper: &'static str,
}

#[async_trait]
impl CheckHealth for Checks {
    async fn check(&self, probe: &HealthProbe, limit: Duration) -> Result<String, String> {
        let mut command = match probe {
            HealthProbe::Http { port, path } => {
                let mut command = Command::new(self.helper);
                command.args(["http", &format!("127.0.0.1:{port}"), path]);
                command
            }
            HealthProbe::Tcp { port } => {
                let mut command = Command::new(self.helper);
                command.args(["tcp", &format!("127.0.0.1:{port}")]);
                command
            }
            HealthProbe::Command { command: words } => {
                let Some((program, arguments)) = words.split_first() else {
                    return Err("no command is given".to_owned());
                };
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
        };
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = match timeout(limit, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("running the health check: {error}")),
            Err(_) => return Err(format!("no answer within {} s", limit.as_secs_f32())),
        };
        let words = String::from_utf8_lossy(&output.stdout);
        let words = words.lines().next().unwrap_or_default().trim().to_owned();
        if output.status.success() { Ok(words) } else { Err(words) }
    }
}
