//! systemd of this machine, over D-Bus: org.freedesktop.systemd1(5).

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep, timeout};
use zbus::message::Type;
use zbus::{Connection, DynamicType, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use super::failed;
use crate::model::unit::UnitState;
use crate::port::units::{UnitError, UnitManager};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// How long systemd may take to answer. It loads all units again when its files have changed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many signals wait at most; one is enough to look.
const QUEUE: Option<NonZeroUsize> = NonZeroUsize::new(64);
/// Changes within this time of each other are handled together.
const TOGETHER: Duration = Duration::from_millis(50);

/// systemd, as long as it is asked.
#[derive(Default)]
pub struct SystemBus {
    connection: Mutex<Option<Connection>>,
    changed: Arc<Notify>,
}

/// What `ListUnitsByNames` says of a unit: name, description, load state, active state, sub state, followed unit,
/// path, and the id, type and path of its job.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl SystemBus {
    async fn connection(&self) -> zbus::Result<Connection> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref() {
            return Ok(connection.clone());
        }
        let connection = Connection::system().await?;
        // systemd sends signals only while somebody has asked for them.
        connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "Subscribe", &()).await?;
        let rule =
            MatchRule::builder().msg_type(Type::Signal).sender(SYSTEMD).path_namespace(PATH).build()?;
        let mut signals = MessageStream::for_match_rule(rule, &connection, QUEUE).await?;
        let changed = Arc::clone(&self.changed);
        // It ends with the connection.
        tokio::spawn(async move {
            while signals.next().await.is_some() {
                changed.notify_one();
            }
            changed.notify_one();
        });
        *held = Some(connection.clone());
        Ok(connection)
    }

    async fn call<B>(
        &self,
        doing: &str,
        at: (&str, &str),
        method: &str,
        body: &B,
    ) -> Result<Message, UnitError>
    where
        B: serde::Serialize + DynamicType + Sync,
    {
        let asked = async {
            let connection = self.connection().await?;
            connection.call_method(Some(SYSTEMD), at.0, Some(at.1), method, body).await
        };
        let answer = timeout(PATIENCE, asked).await;
        match answer {
            Ok(Ok(message)) => Ok(message),
            // systemd has answered: the connection is fine.
            Ok(Err(zbus::Error::MethodError(name, words, _))) => {
                Err(failed(doing, words.unwrap_or_else(|| name.to_string())))
            }
            Ok(Err(error)) => {
                *self.connection.lock().await = None;
                Err(failed(doing, error))
            }
            Err(_) => {
                *self.connection.lock().await = None;
                Err(failed(doing, format!("systemd did not answer within {} s", PATIENCE.as_secs())))
            }
        }
    }

    /// The `Result` of a unit's last run.
    async fn result(&self, name: &str, path: &OwnedObjectPath) -> Result<String, UnitError> {
        let kind = name.rsplit('.').next().unwrap_or_default();
        let mut letters = kind.chars();
        let interface = match letters.next() {
            Some(first) => format!("{SYSTEMD}.{}{}", first.to_ascii_uppercase(), letters.as_str()),
            None => return Ok(String::new()),
        };
        let doing = format!("asking systemd how {name} failed");
        let at = (path.as_str(), "org.freedesktop.DBus.Properties");
        let answer = self.call(&doing, at, "Get", &(interface, "Result")).await?;
        let value: OwnedVariant = answer.body().deserialize().map_err(|error| failed(&doing, error))?;
        String::try_from(value).map_err(|error| failed(&doing, error))
    }
}

#[async_trait]
impl UnitManager for SystemBus {
    async fn states(&self, names: &[String]) -> Result<BTreeMap<String, UnitState>, UnitError> {
        let doing = "asking systemd for units";
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let answer = self.call(doing, (PATH, MANAGER), "ListUnitsByNames", &(names,)).await?;
        let listed: Vec<Listed> = answer.body().deserialize().map_err(|error| failed(doing, error))?;
        let mut found = BTreeMap::new();
        for (name, _, load, active, _, _, path, job, _, _) in listed {
            if load == "not-found" {
                continue;
            }
            let result =
                if active == "failed" { self.result(&name, &path).await? } else { "success".to_owned() };
            found.insert(name, UnitState { active, job: job != 0, result });
        }
        Ok(found)
    }

    async fn reload(&self) -> Result<(), UnitError> {
        self.call("having systemd read its files again", (PATH, MANAGER), "Reload", &()).await.map(drop)
    }

    async fn start(&self, name: &str) -> Result<(), UnitError> {
        let doing = format!("starting {name}");
        self.call(&doing, (PATH, MANAGER), "StartUnit", &(name, "replace")).await.map(drop)
    }

    async fn stop(&self, name: &str) -> Result<(), UnitError> {
        let doing = format!("stopping {name}");
        self.call(&doing, (PATH, MANAGER), "StopUnit", &(name, "replace")).await.map(drop)
    }

    async fn forget(&self, name: &str) -> Result<(), UnitError> {
        // One that is not loaded has nothing to be forgotten, which systemd calls a failure.
        let doing = format!("forgetting that {name} failed");
        let _ = self.call(&doing, (PATH, MANAGER), "ResetFailedUnit", &(name,)).await;
        Ok(())
    }

    async fn changed(&self, limit: Duration) {
        if timeout(limit, self.changed.notified()).await.is_ok() {
            sleep(TOGETHER).await;
        }
    }
}
