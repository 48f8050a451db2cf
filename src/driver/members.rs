//! The machines of a cluster, as its groups list them: read when somebody asks, and kept for a
//! few seconds. What follows from how old a list is, is decided in [`crate::plan::identity::standing`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::model::group::Group;
use crate::model::name::MachineId;
use crate::plan::identity::Member;
use crate::plan::identity::standing::{FRESH_ABSENT_S, Seen, Standing, standing};
use crate::port::cluster::ClusterError;
use crate::port::groups::Groups;

/// How long reading the groups may take.
const READING: Duration = Duration::from_secs(8);
/// How long nobody reads again after that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// The machines of a cluster.
pub struct Members {
    groups: Arc<dyn Groups>,
    tags: Vec<(String, String)>,
    me: MachineId,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    list: Option<(Arc<Vec<Group>>, Instant)>,
    failed: Option<(Instant, String)>,
}

impl Known {
    fn failed(&self) -> bool {
        self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < PAUSE)
    }

    fn reason(&self) -> String {
        self.failed.as_ref().map_or_else(String::new, |(_, reason)| reason.clone())
    }
}

impl Members {
    /// The machines of the groups that carry all of `tags`. `me` is this machine, which a
    /// complete list has.
    pub fn new(groups: Arc<dyn Groups>, tags: Vec<(String, String)>, me: MachineId) -> Self {
        Self { groups, tags, me, known: Mutex::default() }
    }

    /// The machine that an instance is.
    ///
    /// # Errors
    /// [`ClusterError::Denied`] when it is none, [`ClusterError::Unreachable`] when that is not known.
    pub async fn member(&self, instance: &MachineId) -> Result<Member, ClusterError> {
        let mut known = self.known.lock().await;
        loop {
            let list = known.list.as_ref().map(|(list, at)| (list.as_slice(), at.elapsed().as_secs()));
            match standing(&Seen { list, failed: known.failed() }, instance) {
                Standing::Member(member) => return Ok(member),
                Standing::Not(not) => return Err(ClusterError::Denied { reason: not.to_string() }),
                Standing::Unknown => return Err(unknown(&known)),
                Standing::Read => self.read(&mut known).await,
            }
        }
    }

    /// The groups as they are now, or were a moment ago.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn groups(&self) -> Result<Arc<Vec<Group>>, ClusterError> {
        let mut known = self.known.lock().await;
        let now = |known: &Known| {
            let list = known.list.as_ref().filter(|(_, at)| at.elapsed().as_secs() <= FRESH_ABSENT_S);
            list.map(|(list, _)| Arc::clone(list))
        };
        if let Some(list) = now(&known) {
            return Ok(list);
        }
        self.read(&mut known).await;
        now(&known).ok_or_else(|| unknown(&known))
    }

    async fn read(&self, known: &mut Known) {
        let tags: Vec<(&str, &str)> =
            self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let reason = match timeout(READING, self.groups.groups(&tags)).await {
            Ok(Ok(list)) if list.iter().flat_map(|group| &group.instances).any(|one| one.id == self.me) => {
                *known = Known { list: Some((Arc::new(list), Instant::now())), failed: None };
                return;
            }
            // Nobody may lose his standing because of half a list.
            Ok(Ok(_)) => "the list of the cluster's groups lacks this control machine".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", READING.as_secs()),
        };
        tracing::warn!(reason, "reading the cluster's groups");
        known.failed = Some((Instant::now(), reason));
    }
}

fn unknown(known: &Known) -> ClusterError {
    ClusterError::Unreachable {
        endpoint: "the autoscaling groups of the cluster".to_owned(),
        reason: known.reason(),
    }
}
