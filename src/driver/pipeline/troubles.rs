//! What is wrong with the server itself, so that its pages, its metrics and its log say the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

/// What a trouble is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Concern {
    /// A disk is nearly full.
    Disk,
    /// The infra repository has changed, and is not valid.
    Configuration,
    /// Whether another server works for the environment is unknown.
    Lock,
}

impl Concern {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disk, Self::Configuration, Self::Lock];

    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Configuration => "configuration",
            Self::Lock => "lock",
        }
    }
}

/// A trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it is about.
    pub concern: Concern,
    /// What is wrong, and what follows.
    pub text: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// The troubles of a server; at most one of each concern.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<Concern, Trouble>>);

impl Troubles {
    /// Sets what is wrong with a concern, or that nothing is; `true` when this is news.
    pub fn set(&self, concern: Concern, text: Option<String>) -> bool {
        let mut all = self.lock();
        match text {
            None => all.remove(&concern).is_some(),
            Some(text) => match all.get_mut(&concern) {
                Some(known) if known.text == text => false,
                Some(known) => {
                    known.text = text;
                    true
                }
                None => {
                    all.insert(concern, Trouble { concern, text, since: Utc::now() });
                    true
                }
            },
        }
    }

    /// What is wrong now.
    pub fn all(&self) -> Vec<Trouble> {
        self.lock().values().cloned().collect()
    }

    /// Why no run may be begun, apart from disks.
    pub fn stops(&self) -> Option<String> {
        self.lock().get(&Concern::Lock).map(|trouble| trouble.text.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Concern, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_news_once_and_only_the_lock_stops_runs() {
        let troubles = Troubles::default();
        assert!(!troubles.set(Concern::Disk, None));
        assert!(troubles.set(Concern::Disk, Some("full".into())));
        assert!(!troubles.set(Concern::Disk, Some("full".into())));
        assert!(troubles.set(Concern::Disk, Some("fuller".into())));
        assert_eq!(troubles.stops(), None);
        assert!(troubles.set(Concern::Lock, Some("lost".into())));
        assert_eq!(troubles.stops().as_deref(), Some("lost"));
        assert_eq!(
            troubles.all().iter().map(|trouble| trouble.concern).collect::<Vec<_>>(),
            [Concern::Disk, Concern::Lock]
        );
        assert!(troubles.set(Concern::Lock, None));
        assert_eq!(troubles.all().len(), 1);
    }
}
