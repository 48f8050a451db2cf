//! `web` or `web@1`, as an argument.

use std::fmt;
use std::str::FromStr;

use crate::model::name::ServiceName;

/// A service, or one instance of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: ServiceName,
    /// The instance's full name, `web@1`, or `web@i-0d3c` where there is one on every machine.
    pub instance: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.instance.as_deref().unwrap_or(self.service.as_str()))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, slot) = match text.split_once('@') {
            Some((service, slot)) => (service, Some(slot)),
            None => (text, None),
        };
        let service = service.parse().map_err(|error: crate::model::name::BadName| error.to_string())?;
        let named =
            |slot: &str| !slot.is_empty() && slot.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if slot.is_some_and(|slot| !named(slot)) {
            return Err(format!(
                "`{text}` is not an instance: write it as `fleetwright status` does, `{service}@1`"
            ));
        }
        Ok(Self { instance: slot.map(|_| text.to_owned()), service })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_or_one_of_its_instances() {
        let read =
            |text: &str| text.parse::<Target>().map(|target| (target.service.to_string(), target.instance));
        assert_eq!(read("web"), Ok(("web".to_owned(), None)));
        assert_eq!(read("web@1"), Ok(("web".to_owned(), Some("web@1".to_owned()))));
        assert_eq!(read("web@i-0d3c"), Ok(("web".to_owned(), Some("web@i-0d3c".to_owned()))));
        for bad in ["web@", "@1", "Web", "web@1@2", "web@1 2"] {
            read(bad).expect_err(bad);
        }
    }
}
