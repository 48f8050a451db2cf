//! Which drop-ins belong to which unit of a set, found without looking at each pair of them.

use std::collections::HashMap;

use super::Unit;
use super::name::{Kind, UnitName};

/// The drop-ins of a set, by what they are for.
pub struct DropIns<'u> {
    units: &'u [Unit],
    /// By the name of their folder, without `.d`.
    named: HashMap<&'u str, Vec<usize>>,
    /// Those for all units of a kind.
    general: HashMap<Kind, Vec<usize>>,
}

impl<'u> DropIns<'u> {
    /// Those among `units`.
    pub fn new(units: &'u [Unit]) -> Self {
        let (mut named, mut general) = (HashMap::new(), HashMap::new());
        for (index, unit) in units.iter().enumerate().filter(|(_, unit)| unit.is_drop_in()) {
            match (unit.name(), unit.kind(), &unit.name) {
                (Some(name), _, _) => named.entry(name.as_str()).or_insert_with(Vec::new).push(index),
                (None, Some(kind), None) => general.entry(kind).or_insert_with(Vec::new).push(index),
                // The name of its folder is none.
                _ => {}
            }
        }
        Self { units, named, general }
    }

    /// Those of the unit `name`, in the order of the set: of its whole name, of its template's, of
    /// the beginnings of it that end in a dash, and of its kind.
    pub fn of(&self, name: &UnitName) -> Vec<&'u Unit> {
        if self.named.is_empty() && self.general.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<usize> = self.general.get(&name.kind()).cloned().unwrap_or_default();
        let mut add = |name: &str| found.extend(self.named.get(name).into_iter().flatten());
        add(name.as_str());
        if let Some(template) = name.template() {
            add(&template);
        }
        for (dash, _) in name.stem().match_indices('-') {
            add(&format!("{}.{}", &name.stem()[..=dash], name.kind().suffix()));
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|index| &self.units[index]).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        let stem =
            proptest::sample::select(vec!["a", "a-", "a-b", "a-b-", "a@", "a@x", "a-b@x", "a-b@x-", "-"]);
        (stem, proptest::sample::select(vec!["service", "socket"]))
            .prop_map(|(stem, kind)| format!("{stem}.{kind}"))
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_systemd_reads(
            folders in proptest::collection::vec(prop_oneof![name(), Just("service".to_owned()), Just("b d".to_owned())], 0..6),
            unit in name(),
        ) {
            let units: Vec<Unit> =
                folders.iter().map(|folder| Unit::parse(&format!("{folder}.d/a.conf"), "")).collect();
            let unit = UnitName::parse(&unit).expect("a name");
            let each: Vec<*const Unit> =
                units.iter().filter(|one| one.adds_to(&unit)).map(std::ptr::from_ref).collect();
            let found: Vec<*const Unit> =
                DropIns::new(&units).of(&unit).into_iter().map(std::ptr::from_ref).collect();
            prop_assert_eq!(found, each);
        }
    }
}
