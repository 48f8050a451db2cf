//! The schemas of all resource types, embedded, and unpacked a few at a time.
//!
//! `scripts/schemas.py` writes the file and describes it. Finding a type is a binary search in
//! the index; a type's record is parsed when it is first asked for, its parts when they are first
//! needed, and both are kept.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Deserialize;

use super::types::{Enumeration, PolicySchema, Schema, TypeSchema};

/// What `scripts/schemas.py` has written.
static FILE: &[u8] = include_bytes!("schemas.bin");
const MAGIC: &[u8] = b"FWSCHEM1";
/// The most that the index and a chunk may hold, unpacked.
const MOST: usize = 4 << 20;

/// All resource types.
#[derive(Debug)]
pub struct Schemas {
    regions: Vec<String>,
    /// The lines of the index that hold types.
    types: String,
    /// What follows the index.
    data: &'static [u8],
    dictionary: &'static [u8],
    /// Where each chunk is, how long, and how long unpacked.
    chunks: Vec<(usize, usize, usize)>,
    unpacked: Mutex<HashMap<usize, &'static [u8]>>,
    records: Mutex<HashMap<String, Option<&'static TypeSchema>>>,
    lists: Mutex<HashMap<String, Option<&'static [String]>>>,
    policies: [OnceLock<Option<PolicySchema>>; 2],
}

#[derive(Debug, serde::Deserialize)]
struct Head {
    regions: Vec<String>,
    dictionary: Option<(usize, usize)>,
    chunks: Vec<(usize, usize, usize)>,
}

/// A line of the index.
struct Entry<'i> {
    name: &'i str,
    chunk: usize,
    offset: usize,
    length: usize,
    /// Bit n is the nth region.
    regions: u64,
}

/// A policy of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// How it is updated.
    Update,
    /// When it counts as created.
    Creation,
}

/// The embedded schemas.
pub fn all() -> &'static Schemas {
    static ALL: OnceLock<Schemas> = OnceLock::new();
    ALL.get_or_init(|| Schemas::read(FILE).expect("a test reads the embedded file"))
}

impl Schemas {
    fn read(file: &'static [u8]) -> Option<Self> {
        let rest = file.strip_prefix(MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (index, data) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let mut types = String::from_utf8(zstd::bulk::decompress(index, MOST).ok()?).ok()?;
        let end = types.find('\n')?;
        let head: Head = serde_json::from_str(&types[..end]).ok()?;
        types.drain(..=end);
        types.shrink_to_fit();
        let dictionary = match head.dictionary {
            Some((at, length)) => data.get(at..at + length)?,
            None => &[],
        };
        Some(Self {
            regions: head.regions,
            types,
            data,
            dictionary,
            chunks: head.chunks,
            unpacked: Mutex::default(),
            records: Mutex::default(),
            lists: Mutex::default(),
            policies: [OnceLock::new(), OnceLock::new()],
        })
    }

    /// The schema of a resource type, if there is one.
    pub fn find(&self, name: &str) -> Option<&'static TypeSchema> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = records.get(name) {
            return *known;
        }
        let found = self.entry(name).filter(|entry| entry.regions != 0).and_then(|entry| {
            let mut schema: TypeSchema = self.record(&entry)?;
            schema.regions = entry.regions;
            // Types are few, and live as long as the process in any case.
            Some(&*Box::leak(Box::new(schema)))
        });
        records.insert(name.to_owned(), found);
        found
    }

    /// What the policy of a resource type must be, with the definitions it refers to; `None`
    /// for a type that has no such policy.
    pub fn policy(
        &'static self,
        policy: Policy,
        kind: &str,
    ) -> Option<(&'static Schema, &'static PolicySchema)> {
        let (slot, name) = match policy {
            Policy::Update => (&self.policies[0], "fleetwright::UpdatePolicy"),
            Policy::Creation => (&self.policies[1], "fleetwright::CreationPolicy"),
        };
        let all = slot.get_or_init(|| self.record(&self.entry(name)?)).as_ref()?;
        Some((all.types.get(kind)?, all))
    }

    /// The values of a list that depends on the region: all of them, whatever the region.
    pub fn values(&self, list: &str) -> Option<&'static [String]> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lists.get(list) {
            return *known;
        }
        let found = self.entry(&format!("fleetwright::Enum::{list}")).and_then(|entry| {
            let found: Enumeration = self.record(&entry)?;
            let values: Vec<String> = found.values.into_values().flatten().collect();
            Some(&*values.leak())
        });
        lists.insert(list.to_owned(), found);
        found
    }

    /// Whether a region has a resource type; `None` where the region is not known.
    pub fn in_region(&self, kind: &str, region: &str) -> Option<bool> {
        let bit = self.regions.iter().position(|known| known == region)?;
        Some(self.find(kind)?.regions >> bit & 1 == 1)
    }

    /// The regions that are known.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        // Those that publish no schemas.
        self.regions.iter().map(String::as_str).chain(["me-south-1", "sa-west-1"])
    }

    /// The names of all resource types, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.types
            .lines()
            .filter_map(|line| line.split('\t').next())
            .filter(|name| !name.starts_with("fleetwright::"))
    }

    fn entry(&self, name: &str) -> Option<Entry<'_>> {
        let (mut low, mut high) = (0, self.types.len());
        while low < high {
            let middle = low + (high - low) / 2;
            // Any byte of a line leads to its start: names and numbers are ASCII.
            let start =
                self.types.as_bytes()[..middle].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            let line = self.types[start..].lines().next()?;
            let entry = Entry::parse(line)?;
            match entry.name.cmp(name) {
                std::cmp::Ordering::Equal => return Some(entry),
                std::cmp::Ordering::Less => low = start + line.len() + 1,
                std::cmp::Ordering::Greater => high = start,
            }
        }
        None
    }

    fn record<T: Deserialize<'static>>(&self, entry: &Entry<'_>) -> Option<T> {
        let chunk = self.unpack(entry.chunk)?;
        serde_json::from_slice(chunk.get(entry.offset..entry.offset + entry.length)?).ok()
    }

    fn unpack(&self, chunk: usize) -> Option<&'static [u8]> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = unpacked.get(&chunk) {
            return Some(known);
        }
        let (at, length, raw) = *self.chunks.get(chunk)?;
        let packed = self.data.get(at..at + length)?;
        let mut decompressor = zstd::bulk::Decompressor::with_dictionary(self.dictionary).ok()?;
        let bytes: &'static [u8] = Box::leak(decompressor.decompress(packed, raw).ok()?.into_boxed_slice());
        unpacked.insert(chunk, bytes);
        Some(bytes)
    }
}

impl<'i> Entry<'i> {
    fn parse(line: &'i str) -> Option<Self> {
        let mut fields = line.split('\t');
        Some(Self {
            name: fields.next()?,
            chunk: fields.next()?.parse().ok()?,
            offset: fields.next()?.parse().ok()?,
            length: fields.next()?.parse().ok()?,
            regions: u64::from_str_radix(fields.next()?, 16).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_and_read() {
        let schemas = all();
        let names: Vec<&str> = schemas.names().collect();
        assert!(names.len() > 1800, "{}", names.len());
        for name in names {
            let found = schemas.find(name).unwrap_or_else(|| panic!("{name} is not there"));
            parse(&found.properties);
            found.rules.iter().for_each(|rule| parse(rule.schema.get()));
        }
        assert!(schemas.find("AWS::EC2::Vpc").is_none());
        assert!(schemas.find("").is_none());
        assert!(schemas.find("fleetwright::UpdatePolicy").is_none());
    }

    /// Parses what is parsed only when it is needed.
    fn parse(schema: &Schema) {
        let boxed = [&schema.additional_properties, &schema.items, &schema.contains, &schema.property_names]
            .into_iter()
            .chain([&schema.not, &schema.when, &schema.then, &schema.otherwise]);
        schema
            .definitions
            .schemas()
            .chain(schema.properties.schemas())
            .chain(boxed.flatten().map(|schema| &**schema))
            .chain(schema.pattern_properties.iter().map(|(_, schema)| schema))
            .chain(schema.all_of.iter().chain(&schema.any_of).chain(&schema.one_of))
            .for_each(parse);
    }

    #[test]
    fn every_policy_is_read() {
        for policy in [Policy::Update, Policy::Creation] {
            let (_, all) = all().policy(policy, "AWS::AutoScaling::AutoScalingGroup").expect("it has both");
            all.types.schemas().chain(all.definitions.schemas()).for_each(parse);
        }
    }

    #[test]
    fn regions_and_policies_are_told() {
        let schemas = all();
        assert_eq!(schemas.in_region("AWS::EC2::VPC", "eu-west-1"), Some(true));
        assert_eq!(schemas.in_region("AWS::EC2::VPC", "mars-north-1"), None);
        assert!(schemas.policy(Policy::Update, "AWS::AutoScaling::AutoScalingGroup").is_some());
        assert!(schemas.policy(Policy::Creation, "AWS::EC2::VPC").is_none());
    }
}
