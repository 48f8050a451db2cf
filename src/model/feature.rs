//! What an agent can do that earlier ones could not. Each published feature is a promise to
//! those who send it something: a machine without it must not get what needs it.

use std::fmt;
use std::str::FromStr;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A feature of an agent. New ones are added at the end and none is ever taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Feature {
    /// Refuses a request with a field that it does not know, instead of leaving the field out.
    StrictRequests,
    /// Carries records of other versions without changing them.
    CarriedRecords,
    /// Keeps what the cluster runs in the project's bucket, and restores it.
    DurableServices,
    /// Answers `cluster status` and `cluster recover` without a majority.
    ClusterRecovery,
}

impl Feature {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] =
        [Self::StrictRequests, Self::CarriedRecords, Self::DurableServices, Self::ClusterRecovery];

    /// The word in labels and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::StrictRequests => "strict-requests",
            Self::CarriedRecords => "carried-records",
            Self::DurableServices => "durable-services",
            Self::ClusterRecovery => "cluster-recovery",
        }
    }

    fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Feature {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|feature| feature.word() == text).ok_or(())
    }
}

/// What one agent can do. Features of later versions are passed over: nobody here asks for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u64);

impl Features {
    /// What this program can do.
    pub fn own() -> Self {
        Feature::ALL.into_iter().collect()
    }

    /// Whether `feature` is among them.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// The features, oldest first.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }

    /// Those of `self` that `other` lacks, oldest first.
    pub fn beyond(self, other: Self) -> impl Iterator<Item = Feature> {
        self.iter().filter(move |feature| !other.has(*feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().fold(0, |bits, feature| bits | feature.bit()))
    }
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.iter().count()))?;
        for feature in self.iter() {
            list.serialize_element(feature.word())?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Features;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of features")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Features, A::Error> {
                let mut found = Features::default();
                while let Some(word) = list.next_element::<String>()? {
                    if let Ok(feature) = word.parse::<Feature>() {
                        found.0 |= feature.bit();
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_seq(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_survive_the_wire_and_unknown_ones_are_passed_over() {
        let text = serde_json::to_string(&Features::own()).expect("JSON");
        assert_eq!(serde_json::from_str::<Features>(&text).expect("features"), Features::own());
        let later = r#"["strict-requests", "of-a-later-version"]"#;
        let later: Features = serde_json::from_str(later).expect("features");
        assert!(later.has(Feature::StrictRequests) && !later.has(Feature::CarriedRecords));
        assert_eq!(Features::own().beyond(later).count(), Feature::ALL.len() - 1);
    }

    #[test]
    fn each_feature_has_a_word_and_a_bit_of_its_own() {
        for (at, feature) in Feature::ALL.into_iter().enumerate() {
            assert_eq!(feature.word().parse(), Ok(feature));
            assert_eq!(feature.bit(), 1 << at);
        }
    }
}
