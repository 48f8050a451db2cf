//! Access keys of the local cloud: one for each machine and each user. They are derived from one
//! random secret of the cloud, so that a supervisor that is started again knows them.

use std::fs;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::model::secret::Secret;

use super::error::LocalError;
use super::home::{CloudFiles, write_file};
use super::registry::random_text;

/// What the ids of machines' keys begin with.
const MACHINE: &str = "FWM";
/// What the ids of users' keys begin with.
const USER: &str = "FWU";

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id, which is no secret.
    pub id: String,
    /// What is signed with.
    pub secret: Secret<String>,
    /// The token of its session; users have none.
    pub token: Option<Secret<String>>,
}

/// The keys of one local cloud.
#[derive(Debug, Clone)]
pub struct CloudKeys {
    seed: Secret<String>,
}

impl CloudKeys {
    /// The keys of a cloud, whose secret is made when there is none.
    ///
    /// # Errors
    /// When it can't be made, or neither read nor written.
    pub fn open(files: &CloudFiles) -> Result<Self, LocalError> {
        let path = files.dir().join("keys");
        let seed = match fs::read_to_string(&path) {
            Ok(seed) if seed.len() >= 32 => seed,
            Ok(_) => Self::make(&path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::make(&path)?,
            Err(error) => return Err(LocalError::file("reading", &path)(error)),
        };
        Ok(Self { seed: Secret::new(seed) })
    }

    fn make(path: &std::path::Path) -> Result<String, LocalError> {
        let seed = random_text()?;
        write_file(path, &seed)?;
        Ok(seed)
    }

    fn derive(&self, what: &str, of: &str) -> Secret<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.seed.expose().as_bytes())
            .expect("HMAC takes keys of every length");
        mac.update(what.as_bytes());
        mac.update(b"/");
        mac.update(of.as_bytes());
        Secret::new(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The key of a machine.
    pub fn machine(&self, instance: &str) -> AccessKey {
        AccessKey {
            id: machine_id(instance),
            secret: self.derive("machine", instance),
            token: Some(self.derive("session", instance)),
        }
    }

    /// The key of a user.
    pub fn user(&self, name: &str) -> AccessKey {
        let hex: String = name.bytes().map(|byte| format!("{byte:02X}")).collect();
        AccessKey { id: format!("{USER}{hex}"), secret: self.derive("user", name), token: None }
    }
}

/// The id of a machine's key.
pub fn machine_id(instance: &str) -> String {
    let letters = instance.chars().filter(char::is_ascii_alphanumeric);
    format!("{MACHINE}{}", letters.map(|c| c.to_ascii_uppercase()).collect::<String>())
}

/// The user whose key has that id.
pub fn user_of(id: &str) -> Option<String> {
    let hex = id.strip_prefix(USER)?;
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok())
        .collect();
    String::from_utf8(bytes?).ok().filter(|name| is_user(name))
}

/// Whether IAM takes it for a user's name.
pub fn is_user(name: &str) -> bool {
    (1..=60).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte))
}

/// The user that commands are run as when no other is named. Starters make it an admin of their
/// local environment.
pub const DEFAULT_USER: &str = "local";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_are_the_same_again() {
        let keys = CloudKeys { seed: Secret::new("seed".repeat(10)) };
        assert_eq!(keys.machine("i-1"), keys.machine("i-1"));
        assert_ne!(keys.machine("i-1").secret, keys.machine("i-2").secret);
        assert_ne!(keys.machine("i-1").token, keys.machine("i-2").token);
        assert_ne!(keys.machine("i-1").secret, keys.user("i-1").secret);
        let other = CloudKeys { seed: Secret::new("sead".repeat(10)) };
        assert_ne!(keys.user("ann").secret, other.user("ann").secret);
    }

    #[test]
    fn a_key_s_id_names_its_user() {
        let keys = CloudKeys { seed: Secret::new("seed".repeat(10)) };
        for name in ["ann", "ann@example.com", "root"] {
            assert_eq!(user_of(&keys.user(name).id).as_deref(), Some(name));
        }
        for bad in ["FWU", "FWU6", "FWU2F", "FWUzz", "test", "FWM0", "FWUé"] {
            assert_eq!(user_of(bad), None, "{bad}");
        }
    }
}
