use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time")
}

fn now() -> DateTime<Utc> {
    at(1_000 * DAY)
}

fn ago(days: i64) -> DateTime<Utc> {
    at((1_000 - days) * DAY)
}

fn key(letter: u8) -> ImageKey {
    format!("k-{}", char::from(b'a' + letter % 6).to_string().repeat(64)).parse().expect("a key")
}

fn digest(letter: u8) -> Digest {
    format!("sha256:{}", char::from(b'a' + letter % 6).to_string().repeat(64)).parse().expect("a digest")
}

fn run(id: i64, pipeline: &str, state: RunState, days: i64) -> HeldRun {
    HeldRun {
        id: RunId(id),
        pipeline: pipeline.parse().expect("a name"),
        reference: Some(GitRef::branch("main")),
        state,
        ended: state.is_ended().then(|| ago(days)),
        bytes: 10,
        reuses: BTreeSet::new(),
        images: BTreeSet::new(),
    }
}

fn keep(age_days: u32, size: u64) -> Keep {
    let bounds = Bounds { age: Duration::from_secs(86_400) * age_days, size };
    Keep { runs: bounds, files: bounds, caches: bounds, images: bounds, build_cache: bounds }
}

fn said(removals: &[Removal]) -> String {
    let lines = removals.iter().map(|one| format!("{}: {}", one.what.words(), one.reason));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_kind_goes_by_age_and_then_the_oldest_until_the_rest_fits() {
    use RunState::{Cancelled, Failed, Quarantined, Running, Succeeded};
    let mut runs = vec![
        run(1, "web", Succeeded, 200),
        run(2, "web", Succeeded, 150),
        run(3, "web", Failed, 120),
        run(4, "web", Quarantined, 110),
        run(5, "web", Running, 0),
        run(6, "web", Failed, 80),
        run(7, "web", Cancelled, 60),
        run(8, "web", Failed, 1),
        run(9, "nightly", Failed, 300),
    ];
    runs[4].images.insert(key(0));
    // The last successful run has the image that the first one has built.
    runs[1].reuses.insert(RunId(1));
    let cache = |name: &str, group: &str, days, used| HeldCache {
        name: name.to_owned(),
        group: group.to_owned(),
        made: ago(days),
        bytes: 30,
        used,
    };
    let image = |name: &str, letter, days, used| HeldImage {
        reference: name.to_owned(),
        key: key(letter),
        digests: [digest(letter)].into(),
        made: ago(days),
        bytes: 30,
        used,
    };
    let held = Held {
        runs,
        files: [(RunId(2), 50), (RunId(6), 20), (RunId(7), 20), (RunId(8), 30), (RunId(99), 1)].into(),
        caches: vec![
            cache("of-a-run-under-way", "web /root/.cache", 200, false),
            cache("of-strangers", "pull requests of web /root/.cache", 200, false),
            cache("in-a-container", "nightly /cache", 200, true),
            cache("old", "nightly /cache", 120, false),
            cache("young", "nightly /cache", 10, false),
            cache("younger", "nightly /cache", 9, false),
        ],
        images: vec![
            image("r/web:of-a-run-under-way", 0, 200, false),
            image("r/web:of-a-revision", 1, 200, false),
            image("r/web:of-a-container", 2, 200, true),
            image("r/web:old", 3, 120, false),
            image("r/web:young", 4, 10, false),
        ],
        needed: Some([digest(1)].into()),
        build_cache: Some(HeldBuildCache { bytes: 170, oldest: Some(ago(2)) }),
    };
    insta::assert_snapshot!(said(&removals(&keep(100, 150), now(), &held, None)));
    insta::assert_snapshot!(said(&removals(&keep(9_999, 60), now(), &held, None)));
    insta::assert_snapshot!(said(&removals(&keep(9_999, 9_999), now(), &held, Some("the disk is full"))));
    assert_eq!(removals(&keep(9_999, 9_999), now(), &held, None).len(), 1, "files of a run that is unknown");
}

#[test]
fn images_stay_while_what_services_need_is_unknown() {
    let image = HeldImage {
        reference: "r/web:old".into(),
        key: key(0),
        digests: BTreeSet::new(),
        made: ago(500),
        bytes: 1,
        used: false,
    };
    let held = |needed| Held { images: vec![image.clone()], needed, ..Held::default() };
    assert_eq!(removals(&keep(1, 0), now(), &held(None), Some("full")), []);
    assert_eq!(removals(&keep(1, 0), now(), &held(Some(BTreeSet::new())), None).len(), 1);
}

#[test]
fn a_build_cache_in_use_is_left_alone() {
    let held = |oldest| Held { build_cache: Some(HeldBuildCache { bytes: 500, oldest }), ..Held::default() };
    assert_eq!(removals(&keep(1, 10), now(), &held(None), Some("full")), []);
    let removed = removals(&keep(5, 1_000), now(), &held(Some(ago(6))), None);
    let unused = Duration::from_secs(5 * 86_400);
    assert_eq!(removed[0].what, Thing::BuildCache { unused, keep: 1_000 });
}

fn a_run(id: i64) -> impl Strategy<Value = HeldRun> {
    (
        prop::sample::select(vec!["web", "api"]),
        prop::sample::select(RunState::ALL.to_vec()),
        0_i64..200,
        0_u64..100,
        prop::bool::ANY,
        prop::collection::btree_set(1_i64..12, 0..2),
        0_u8..6,
    )
        .prop_map(move |(pipeline, state, days, bytes, main, reuses, image)| HeldRun {
            bytes,
            reference: Some(GitRef::branch(if main { "main" } else { "next" })),
            reuses: reuses.into_iter().filter(|of| *of < id).map(RunId).collect(),
            images: [key(image)].into(),
            ..run(id, pipeline, state, days)
        })
}

fn holdings() -> impl Strategy<Value = Held> {
    let runs = (1_i64..12).map(a_run).collect::<Vec<_>>();
    let files = prop::collection::btree_map((1_i64..14).prop_map(RunId), 0_u64..100, 0..8);
    let cache = (0_u8..4, 0_i64..200, 0_u64..100, prop::bool::ANY);
    let image = (0_u8..6, 0_i64..200, 0_u64..100, prop::bool::weighted(0.2));
    let needed = prop::option::of(prop::collection::btree_set((0_u8..6).prop_map(digest), 0..3));
    (
        runs,
        files,
        prop::collection::vec(cache, 0..9),
        prop::collection::vec(image, 0..9),
        needed,
        prop::option::of((0_u64..500, prop::option::of(0_i64..200))),
    )
        .prop_map(|(runs, files, caches, images, needed, build_cache)| Held {
            runs,
            files,
            caches: (0..)
                .zip(caches)
                .map(|(number, (group, days, bytes, used))| HeldCache {
                    name: format!("c{number}"),
                    group: ["web /a", "api /a", "pull requests of web /a", "gone /a"][usize::from(group)]
                        .into(),
                    made: ago(days),
                    bytes,
                    used,
                })
                .collect(),
            images: (0..)
                .zip(images)
                .map(|(number, (letter, days, bytes, used))| HeldImage {
                    reference: format!("r/i:{number}"),
                    key: key(letter),
                    digests: [digest(letter)].into(),
                    made: ago(days),
                    bytes,
                    used,
                })
                .collect(),
            needed,
            build_cache: build_cache.map(|(bytes, oldest)| HeldBuildCache { bytes, oldest: oldest.map(ago) }),
        })
}

/// What is left after the removals were done.
fn without(held: &Held, removed: &[Removal]) -> Held {
    let mut left = held.clone();
    for removal in removed {
        match &removal.what {
            Thing::Run(id) => {
                left.runs.retain(|run| run.id != *id);
                left.files.remove(id);
            }
            Thing::Files(id) => drop(left.files.remove(id)),
            Thing::Cache(name) => left.caches.retain(|cache| cache.name != *name),
            Thing::Image(name) => left.images.retain(|image| image.reference != *name),
            Thing::BuildCache { .. } => left.build_cache = None,
        }
    }
    left
}

proptest! {
    #[test]
    fn nothing_that_is_needed_goes_and_what_may_go_fits(
        held in holdings(),
        age in 1_u32..200,
        size in 0_u64..400,
        low in prop::bool::ANY,
    ) {
        let keep = keep(age, size);
        let low = low.then_some("the disk is nearly full");
        let removed = removals(&keep, now(), &held, low);
        let left = without(&held, &removed);
        let open = |run: &&HeldRun| !run.state.is_ended() || run.state == RunState::Quarantined;
        let is_there = |id: RunId| left.runs.iter().any(|run| run.id == id);

        // Runs: nobody works on what goes, each pipeline keeps its newest, and each reference its last success.
        for run in &held.runs {
            let newer = |other: &&HeldRun| other.pipeline == run.pipeline && other.id > run.id;
            let newest = !held.runs.iter().any(|other| newer(&other));
            let same = |other: &&HeldRun| {
                newer(other) && other.reference == run.reference && other.state == RunState::Succeeded
            };
            let last = run.state == RunState::Succeeded && !held.runs.iter().any(|other| same(&other));
            if open(&run) || newest || last {
                prop_assert!(is_there(run.id), "{run:?}");
                prop_assert_eq!(left.files.get(&run.id), held.files.get(&run.id));
            }
        }
        for run in &left.runs {
            for reused in &run.reuses {
                prop_assert!(is_there(*reused) || held.runs.iter().all(|run| run.id != *reused));
            }
        }
        // What is too old and free has gone; so has what is too much, the oldest first.
        let old = |since: DateTime<Utc>| now() - since > TimeDelta::days(i64::from(age));
        let unknown = |id: &RunId| held.runs.iter().all(|run| run.id != *id);
        prop_assert!(!left.files.keys().any(unknown));
        for cache in &left.caches {
            let pipeline = cache.group.trim_start_matches(STRANGERS).split(' ').next().unwrap_or_default();
            let needed = cache.used
                || held.runs.iter().filter(open).any(|run| run.pipeline.as_str() == pipeline);
            prop_assert!(needed || (!old(cache.made) && low.is_none()), "{cache:?}");
        }
        for cache in held.caches.iter().filter(|cache| cache.used) {
            prop_assert!(left.caches.contains(cache));
        }
        for image in &held.images {
            let stays = image.used
                || held.needed.as_ref().is_none_or(|needed| !needed.is_disjoint(&image.digests))
                || held.runs.iter().filter(open).any(|run| run.images.contains(&image.key));
            prop_assert!(left.images.contains(image) || !stays, "{image:?}");
            prop_assert!(stays || !left.images.contains(image) || (!old(image.made) && low.is_none()));
        }
        let bytes: u64 = left.images.iter().map(|image| image.bytes).sum();
        let free = |image: &&HeldImage| {
            !image.used
                && image.bytes > 0
                && held.needed.as_ref().is_some_and(|needed| needed.is_disjoint(&image.digests))
                && !held.runs.iter().filter(open).any(|run| run.images.contains(&image.key))
        };
        prop_assert!(bytes <= size || !left.images.iter().any(|image| free(&image)));
        // A second look finds nothing more, and each removal has its reason.
        prop_assert_eq!(removals(&keep, now(), &left, low), []);
        prop_assert!(removed.iter().all(|removal| !removal.reason.is_empty()));
    }
}
