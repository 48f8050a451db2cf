//! In which order services are rolled out, and what a release that failed goes back to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::ServiceName;

/// What each service depends on.
pub type DependsOn = BTreeMap<ServiceName, Vec<ServiceName>>;

/// The services in the groups in which they are rolled out: each one after all that it depends on, also
/// where a service between them is not among `services`. Within a group they keep their order.
pub fn groups(services: &[ServiceName], depends_on: &DependsOn) -> Vec<Vec<ServiceName>> {
    let selected: BTreeSet<&ServiceName> = services.iter().collect();
    let mut groups: Vec<Vec<ServiceName>> = Vec::new();
    for service in services {
        let level = level(service, depends_on, &selected, &mut Vec::new());
        groups.resize_with(groups.len().max(level + 1), Vec::new);
        groups[level].push(service.clone());
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// How many of `selected` are at most in a row before a service.
fn level<'s>(
    service: &'s ServiceName,
    depends_on: &'s DependsOn,
    selected: &BTreeSet<&ServiceName>,
    above: &mut Vec<&'s ServiceName>,
) -> usize {
    // A circle is an error of the files; here it must only end.
    if above.contains(&service) {
        return 0;
    }
    above.push(service);
    let before = depends_on.get(service).into_iter().flatten();
    let levels = before.map(|one| {
        level(one, depends_on, selected, above) + usize::from(selected.contains(one) && one != service)
    });
    let level = levels.max().unwrap_or(0);
    above.pop();
    level
}

/// A service of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The service.
    pub service: ServiceName,
    /// The revision that it was at before; `None` where it did not exist.
    pub before: Option<u64>,
    /// The revision that the release made of it.
    pub revision: u64,
}

/// What a service of a release that failed is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// It does not exist, or nothing of it was ever rolled out.
    Absent,
    /// This revision; `as_before` if that deploys what the revision before the release did.
    At {
        /// The revision.
        revision: u64,
        /// Whether it is the same as before.
        as_before: bool,
    },
}

/// How a service goes back to what it was before a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// It is there already.
    There,
    /// To that revision.
    To(u64),
    /// It is on its way there in that revision.
    Follow(u64),
    /// It is removed: it did not exist before.
    Remove,
    /// Not at all: somebody has deployed that revision since, or removed it.
    Leave,
}

/// How a service goes back. It may be asked again after any failure.
pub fn back(member: &Member, present: Present) -> Back {
    match (member.before, present) {
        // What failed before its first rollout has records only.
        (None, Present::Absent) => Back::Remove,
        (None, Present::At { revision, .. }) if revision <= member.revision => Back::Remove,
        (Some(before), Present::At { revision, .. }) if revision == before => Back::There,
        (Some(before), Present::At { revision, .. }) if revision == member.revision => Back::To(before),
        (Some(_), Present::At { revision, as_before: true }) if revision > member.revision => {
            Back::Follow(revision)
        }
        (None | Some(_), Present::At { .. }) | (Some(_), Present::Absent) => Back::Leave,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().expect("a name")
    }

    fn names(texts: &[&str]) -> Vec<ServiceName> {
        texts.iter().map(|text| name(text)).collect()
    }

    fn depends(on: &[(&str, &[&str])]) -> DependsOn {
        on.iter().map(|(service, before)| (name(service), names(before))).collect()
    }

    #[test]
    fn services_come_after_what_they_depend_on_and_else_as_they_were_named() {
        let on = depends(&[("web", &["api"]), ("api", &["db"]), ("worker", &["db"])]);
        assert_eq!(
            groups(&names(&["web", "worker", "api", "db"]), &on),
            [names(&["db"]), names(&["worker", "api"]), names(&["web"])]
        );
        assert_eq!(
            groups(&names(&["web", "db"]), &on),
            [names(&["db"]), names(&["web"])],
            "`api` is between"
        );
        assert_eq!(groups(&names(&["web", "worker"]), &on), [names(&["web", "worker"])]);
        assert_eq!(groups(&[], &on), Vec::<Vec<ServiceName>>::new());
    }

    #[test]
    fn a_release_that_failed_goes_back_and_leaves_what_others_deployed() {
        let member = |before| Member { service: name("web"), before, revision: 5 };
        let at = |revision, as_before| Present::At { revision, as_before };
        assert_eq!(back(&member(Some(4)), at(5, false)), Back::To(4));
        assert_eq!(back(&member(Some(4)), at(4, true)), Back::There, "the engine went back");
        assert_eq!(back(&member(Some(4)), at(6, true)), Back::Follow(6), "it was begun before");
        assert_eq!(back(&member(Some(4)), at(6, false)), Back::Leave);
        assert_eq!(back(&member(Some(4)), Present::Absent), Back::Leave);
        assert_eq!(back(&member(None), at(5, false)), Back::Remove);
        assert_eq!(back(&member(None), Present::Absent), Back::Remove);
        assert_eq!(back(&member(None), at(6, false)), Back::Leave);
    }

    proptest! {
        #[test]
        fn every_service_comes_once_and_after_what_it_depends_on(
            edges in proptest::collection::vec((0usize..8, 0usize..8), 0..20),
            chosen in proptest::collection::vec(any::<bool>(), 8),
        ) {
            let all: Vec<ServiceName> = (0..8).map(|number| name(&format!("s{number}"))).collect();
            let mut on = DependsOn::new();
            for (from, to) in edges.into_iter().filter(|(from, to)| from > to) {
                on.entry(all[from].clone()).or_default().push(all[to].clone());
            }
            let services: Vec<ServiceName> =
                all.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(name, _)| name.clone()).collect();
            let groups = groups(&services, &on);
            let mut flat: Vec<ServiceName> = groups.concat();
            for (place, service) in flat.iter().enumerate() {
                for before in on.get(service).into_iter().flatten() {
                    let earlier = flat.iter().position(|other| other == before);
                    prop_assert!(earlier.is_none_or(|earlier| earlier < place));
                }
            }
            flat.sort();
            prop_assert_eq!(flat, services);
        }
    }
}
