//! The engines that a document is checked for.

use std::fmt;

use crate::source::suggest;

/// An engine that reads user data at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// coreos-cloudinit as Container Linux shipped it last.
    CoreosLegacy,
    /// Flatcar's fork of coreos-cloudinit since 2024, which reads with yaml.v3.
    Flatcar,
    /// cloud-init 22.4, as Debian 12 has it.
    CloudInit22_4,
    /// cloud-init 23.4 and later, whose schema refuses unknown keys at the root.
    CloudInit23_4,
    /// Ignition's specification 3.3, which a document would be translated to.
    Ignition3_3,
}

/// The language of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// coreos-cloudinit's: few keys, and a section `coreos`.
    CoreOs,
    /// cloud-init's.
    CloudInit,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 5] =
        [Self::CoreosLegacy, Self::Flatcar, Self::CloudInit22_4, Self::CloudInit23_4, Self::Ignition3_3];

    /// The targets of the CoreOS dialect.
    pub const COREOS: [Self; 2] = [Self::CoreosLegacy, Self::Flatcar];

    /// The targets of cloud-init's dialect.
    pub const CLOUD_INIT: [Self; 2] = [Self::CloudInit22_4, Self::CloudInit23_4];

    /// All but Ignition: those that read the document itself, its first line and its syntax.
    pub const READERS: [Self; 4] =
        [Self::CoreosLegacy, Self::Flatcar, Self::CloudInit22_4, Self::CloudInit23_4];

    /// The name that `--target` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoreosLegacy => "coreos-legacy",
            Self::Flatcar => "flatcar",
            Self::CloudInit22_4 => "cloud-init-22.4",
            Self::CloudInit23_4 => "cloud-init-23.4",
            Self::Ignition3_3 => "ignition-3.3",
        }
    }

    /// The target of that name.
    ///
    /// # Errors
    /// The nearest name there is, if one is near.
    pub fn parse(name: &str) -> Result<Self, Option<&'static str>> {
        let names = Self::ALL.map(Self::name);
        Self::ALL.into_iter().find(|target| target.name() == name).ok_or_else(|| suggest(name, names))
    }

    /// Those that a document of `dialect` is checked for unless told otherwise.
    pub fn defaults(dialect: Dialect) -> &'static [Self] {
        match dialect {
            Dialect::CoreOs => &Self::COREOS,
            Dialect::CloudInit => &Self::CLOUD_INIT,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for target in Target::ALL {
            assert_eq!(Target::parse(target.name()), Ok(target));
        }
        assert_eq!(Target::parse("flatcat"), Err(Some("flatcar")));
        assert_eq!(Target::parse("windows"), Err(None));
    }
}
