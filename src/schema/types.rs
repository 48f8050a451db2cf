//! A resource type's schema: JSON Schema's words, reduced, with CloudFormation's additions.
//!
//! `scripts/schemas.py` describes the records and writes them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::pattern::{Pattern, by_pattern};

/// A resource type.
#[derive(Debug, Default)]
pub struct TypeSchema {
    /// What `Fn::GetAtt` takes; `*` stands for any text.
    pub attributes: Vec<String>,
    /// Paths of what only the service sets.
    pub read_only_properties: Vec<String>,
    /// Paths of what can't be changed in place.
    pub create_only_properties: Vec<String>,
    /// Paths of what can be changed in place at times.
    pub conditional_create_only_properties: Vec<String>,
    /// Paths of what identifies a resource of the type.
    pub primary_identifier: Vec<String>,
    /// Rules that hold at one path only.
    pub rules: Vec<Rule>,
    /// Values that depend on the region.
    pub regional_enums: Vec<RegionalEnum>,
    /// The regions that have the type: bit n is the nth of those that are known.
    pub regions: u64,
    /// The properties.
    pub properties: Schema,
}

impl<'de: 'static> Deserialize<'de> for TypeSchema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Record;
        impl<'de: 'static> Visitor<'de> for Record {
            type Value = TypeSchema;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a resource type")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TypeSchema, A::Error> {
                let mut found = TypeSchema::default();
                let entries = Entries { map, found: &mut found };
                found.properties = Schema::deserialize(de::value::MapAccessDeserializer::new(entries))?;
                Ok(found)
            }
        }
        deserializer.deserialize_map(Record)
    }
}

/// The entries of a record, which describe the properties, except for those that `found` takes.
struct Entries<'t, A> {
    map: A,
    found: &'t mut TypeSchema,
}

impl<'de: 'static, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<&'de str>()? {
            let (map, found) = (&mut self.map, &mut *self.found);
            match key {
                "attributes" => found.attributes = map.next_value()?,
                "readOnlyProperties" => found.read_only_properties = map.next_value()?,
                "createOnlyProperties" => found.create_only_properties = map.next_value()?,
                "conditionalCreateOnlyProperties" => {
                    found.conditional_create_only_properties = map.next_value()?;
                }
                "primaryIdentifier" => found.primary_identifier = map.next_value()?,
                "rules" => found.rules = map.next_value()?,
                "regionalEnums" => found.regional_enums = map.next_value()?,
                _ => return seed.deserialize(de::value::BorrowedStrDeserializer::new(key)).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// A rule for what stands at a path.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
pub struct Rule {
    /// The path, `A/*/B`.
    pub at: String,
    /// What holds there.
    pub schema: Later,
}

/// The values that a property may have, by region.
#[derive(Debug, Deserialize)]
pub struct RegionalEnum {
    /// The path, `A/*/B`.
    pub at: String,
    /// The name of the list.
    #[serde(rename = "enum")]
    pub list: String,
}

/// A list of values that depends on the region.
#[derive(Debug, Deserialize)]
pub struct Enumeration {
    /// Values by the mask of regions that have them, in hex.
    pub values: BTreeMap<String, Vec<String>>,
}

/// What a resource's update or creation policy may be, by resource type.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'static"))]
pub struct PolicySchema {
    /// By resource type.
    pub types: Named,
    /// What `ref` refers to.
    pub definitions: Named,
}

/// Schemas by name.
#[derive(Debug, Default)]
pub struct Named(Vec<(&'static str, Later)>);

impl Named {
    /// The schema of that name.
    pub fn get(&self, name: &str) -> Option<&Schema> {
        let at = self.0.binary_search_by_key(&name, |(known, _)| known).ok()?;
        Some(self.0[at].1.get())
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    /// All schemas, in the order of their names.
    pub fn schemas(&self) -> impl Iterator<Item = &Schema> {
        self.0.iter().map(|(_, schema)| schema.get())
    }
}

impl<'de: 'static> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de: 'static> Visitor<'de> for Map {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of schemas")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
                let mut schemas = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    schemas.push(entry);
                }
                schemas.sort_by_key(|(name, _)| *name);
                Ok(Named(schemas))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// A schema that is parsed when it is first needed: a type has many definitions and properties, of which a template
/// uses few.
#[derive(Debug)]
pub struct Later {
    text: &'static str,
    parsed: OnceLock<Box<Schema>>,
}

impl Later {
    /// The schema.
    pub fn get(&self) -> &Schema {
        self.parsed.get_or_init(|| {
            Box::new(serde_json::from_str(self.text).expect("a test parses every part of the embedded file"))
        })
    }
}

impl<'de: 'static> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&'de RawValue>::deserialize(deserializer)?.get();
        Ok(Self { text, parsed: OnceLock::new() })
    }
}

/// What a value must be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", remote = "Self", bound(deserialize = "'de: 'static"))]
pub struct Schema {
    /// Whether no value is right: the schema `false`.
    #[serde(skip)]
    pub never: bool,
    /// What `ref` in it refers to; only at the top.
    pub definitions: Named,
    /// The kinds it may be of; none where any will do.
    #[serde(rename = "type")]
    pub kinds: Kinds,
    /// A definition that it must be, too.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The values it may have.
    #[serde(rename = "enum")]
    pub one_of_values: Values,
    /// The same, whatever their case.
    pub enum_case_insensitive: Values,
    /// The value it must have.
    #[serde(rename = "const")]
    pub constant: Option<Text>,
    /// A pattern that is found in it.
    pub pattern: Option<Pattern>,
    /// More of them.
    pub patterns: Vec<Pattern>,
    /// Patterns that are not found in it.
    pub not_patterns: Vec<Pattern>,
    /// What kind of text it is, such as a range of addresses.
    pub format: Option<String>,
    /// The least number.
    pub minimum: Option<f64>,
    /// The greatest number.
    pub maximum: Option<f64>,
    /// A number that it stays below.
    pub exclusive_maximum: Option<f64>,
    /// A number that it is a multiple of.
    pub multiple_of: Option<f64>,
    /// The least number of characters.
    pub min_length: Option<u64>,
    /// The greatest number of characters.
    pub max_length: Option<u64>,
    /// The least number of items.
    pub min_items: Option<u64>,
    /// The greatest number of items.
    pub max_items: Option<u64>,
    /// The least number of entries.
    pub min_properties: Option<u64>,
    /// The greatest number of entries.
    pub max_properties: Option<u64>,
    /// Whether no item may stand in it twice.
    pub unique_items: bool,
    /// Entries that it needs.
    pub required: Vec<String>,
    /// Entries of which it needs exactly one.
    pub required_xor: Vec<String>,
    /// Entries of which it needs at least one.
    pub required_or: Vec<String>,
    /// Entries that need others.
    pub dependent_required: BTreeMap<String, Vec<String>>,
    /// Entries that exclude others.
    pub dependent_excluded: BTreeMap<String, Vec<String>>,
    /// What its entries must be.
    pub properties: Named,
    /// What entries must be whose names have a pattern; an empty one is in every name.
    #[serde(deserialize_with = "by_pattern")]
    pub pattern_properties: Vec<(Pattern, Schema)>,
    /// What other entries must be; nothing is said where there is none.
    pub additional_properties: Option<Box<Schema>>,
    /// What its items must be.
    pub items: Option<Box<Schema>>,
    /// What one of its items must be.
    pub contains: Option<Box<Schema>>,
    /// What the names of its entries must be.
    pub property_names: Option<Box<Schema>>,
    /// It must be all of these.
    pub all_of: Vec<Schema>,
    /// It must be one or more of these.
    pub any_of: Vec<Schema>,
    /// It must be one of these.
    pub one_of: Vec<Schema>,
    /// It must not be this.
    pub not: Option<Box<Schema>>,
    /// If it is this,
    #[serde(rename = "if")]
    pub when: Option<Box<Schema>>,
    /// it must be that,
    pub then: Option<Box<Schema>>,
    /// and if not, that.
    #[serde(rename = "else")]
    pub otherwise: Option<Box<Schema>>,
}

impl<'de: 'static> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de: 'static> Visitor<'de> for Either {
            type Value = Schema;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean or a schema")
            }

            fn visit_bool<E: de::Error>(self, anything: bool) -> Result<Schema, E> {
                Ok(Schema { never: !anything, ..Schema::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Schema, A::Error> {
                // The derived one, which `remote` has made a function of its own.
                Schema::deserialize(de::value::MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Schema {
    /// Whether all it says is which entries are needed.
    pub fn only_requires(&self) -> bool {
        !self.required.is_empty()
            && self.kinds.is_any_or(Kinds::OBJECT)
            && self.reference.is_none()
            && self
                .properties
                .schemas()
                .all(|schema| schema.kinds.is_any() && schema.reference.is_none() && !schema.never)
            && self.pattern_properties.is_empty()
            && self.additional_properties.is_none()
            && self.any_of.is_empty()
            && self.one_of.is_empty()
            && self.all_of.is_empty()
            && self.not.is_none()
    }
}

/// Kinds of values, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// A text.
    pub const STRING: Self = Self(1);
    /// A whole number.
    pub const INTEGER: Self = Self(2);
    /// A number.
    pub const NUMBER: Self = Self(4);
    /// Yes or no.
    pub const BOOLEAN: Self = Self(8);
    /// A list.
    pub const ARRAY: Self = Self(16);
    /// A mapping.
    pub const OBJECT: Self = Self(32);

    /// Whether nothing is said of the kind.
    pub fn is_any(self) -> bool {
        self.0 == 0
    }

    /// Whether it is `other`, or nothing is said.
    pub fn is_any_or(self, other: Self) -> bool {
        self.0 == 0 || self == other
    }

    /// Whether it may be that.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it may be a text, a number or a boolean.
    pub fn has_scalar(self) -> bool {
        self.0 & 15 != 0
    }

    fn of(name: &str) -> Self {
        match name {
            "string" => Self::STRING,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "boolean" => Self::BOOLEAN,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self(0),
        }
    }

    /// What it is, in words, "a text or a list".
    pub fn words(self) -> String {
        let names = [
            (Self::STRING, "a text"),
            (Self::INTEGER, "a whole number"),
            (Self::NUMBER, "a number"),
            (Self::BOOLEAN, "`true` or `false`"),
            (Self::ARRAY, "a list"),
            (Self::OBJECT, "a mapping"),
        ];
        let names: Vec<&str> =
            names.iter().filter(|(kind, _)| self.has(*kind)).map(|(_, name)| *name).collect();
        names.join(" or ")
    }
}

impl<'de> Deserialize<'de> for Kinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Kinds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type's name or a list of them")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Kinds, E> {
                Ok(Kinds::of(name))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Kinds, A::Error> {
                let mut all = 0;
                while let Some(name) = names.next_element::<std::borrow::Cow<'_, str>>()? {
                    all |= Kinds::of(&name).0;
                }
                Ok(Kinds(all))
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// A scalar, as the text that a template would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

/// Scalars as texts.
pub type Values = Vec<Text>;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scalar")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}
