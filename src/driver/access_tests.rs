use std::collections::BTreeMap;
use std::sync::Mutex as Locked;
use std::sync::atomic::{AtomicU8, Ordering};

use super::*;
use crate::port::parameters::{Parameter, Readable};

const PREFIX: &str = "/fleetwright/shop/production/main";

/// A parameter store that can be out of reach.
#[derive(Default)]
struct Store {
    values: Locked<BTreeMap<String, String>>,
    down: Locked<bool>,
}

impl Store {
    fn set(&self, name: &str, value: &str) {
        self.values.lock().expect("no test panics here").insert(format!("{PREFIX}/{name}"), value.to_owned());
    }

    fn go(&self, down: bool) {
        *self.down.lock().expect("no test panics here") = down;
    }

    fn answer<T>(&self, value: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> Result<T, CloudError> {
        if *self.down.lock().expect("no test panics here") {
            return Err(CloudError::Unreachable { doing: "reading".into(), reason: "no route".into() });
        }
        Ok(value(&mut self.values.lock().expect("no test panics here")))
    }
}

#[async_trait]
impl Parameters for Store {
    async fn get(&self, name: &str) -> Result<Option<Secret<String>>, CloudError> {
        self.answer(|values| values.get(name).cloned().map(Secret::new))
    }

    async fn readable(&self, _: &str) -> Result<Option<Readable>, CloudError> {
        unreachable!("no plain parameter is read")
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Parameter>, CloudError> {
        self.answer(|values| {
            let below = values.iter().filter(|(name, _)| name.starts_with(&format!("{prefix}/")));
            below
                .map(|(name, value)| Parameter { name: name.clone(), value: Secret::new(value.clone()) })
                .collect()
        })
    }

    async fn create_if_absent(
        &self,
        name: &str,
        value: &Secret<String>,
        _protection: Protection,
    ) -> Result<bool, CloudError> {
        self.answer(|values| {
            let absent = !values.contains_key(name);
            values.entry(name.to_owned()).or_insert_with(|| value.expose().clone());
            absent
        })
    }

    async fn put(
        &self,
        name: &str,
        value: &Secret<String>,
        _protection: Protection,
    ) -> Result<(), CloudError> {
        self.answer(|values| drop(values.insert(name.to_owned(), value.expose().clone())))
    }

    async fn delete(&self, name: &str) -> Result<bool, CloudError> {
        self.answer(|values| values.remove(name).is_some())
    }
}

/// How far its clock is ahead.
#[derive(Clone, Default)]
struct Ahead(Arc<Locked<Duration>>);

impl Ahead {
    fn advance(&self, by: Duration) {
        *self.0.lock().expect("no test panics here") += by;
    }
}

fn keeper() -> (Arc<Store>, Keeper, Ahead) {
    let store = Arc::new(Store::default());
    let home = Home { partition: "aws".into(), account: "123456789012".into() };
    let next = AtomicU8::new(1);
    let random: Random = Box::new(move || Ok([next.fetch_add(1, Ordering::Relaxed); 32]));
    let mut keeper = Keeper::new(store.clone(), PREFIX.into(), home, random);
    let (ahead, start) = (Ahead::default(), Instant::now());
    let clock = ahead.clone();
    keeper.clock = Box::new(move || start + *clock.0.lock().expect("no test panics here"));
    (store, keeper, ahead)
}

fn ada(session: &str) -> Principal {
    Principal::Person { arn: "arn:aws:iam::123456789012:role/deploy".into(), session: Some(session.into()) }
}

const POLICY: &str = r#"{"version":1,"admin":[],"deployer":["role/deploy"],"viewer":["*"]}"#;

fn reason<T: std::fmt::Debug>(result: Result<T, ClusterError>) -> String {
    match result {
        Err(ClusterError::Denied { reason }) => reason,
        other => panic!("not denied: {other:?}"),
    }
}

#[tokio::test]
async fn nobody_has_access_until_a_policy_is_read() {
    let (store, keeper, _) = keeper();
    assert!(reason(keeper.level(&ada("ada")).await).contains("has not been read"));
    keeper.refresh().await.expect("read");
    assert!(reason(keeper.level(&ada("ada")).await).contains("no access policy has been published"));
    store.set("access", POLICY);
    assert!(reason(keeper.level(&ada("ada")).await).contains("no access policy"), "it is not read yet");
    keeper.refresh().await.expect("read");
    assert_eq!(keeper.level(&ada("ada")).await.expect("known"), Some(Level::Deployer));
    store.set("access", &POLICY.replace("role/deploy", "role/other"));
    keeper.refresh().await.expect("read");
    assert_eq!(keeper.level(&ada("ada")).await.expect("known"), Some(Level::Viewer));
    assert_eq!(keeper.level(&ada("i-0123456789abcdef0")).await.expect("known"), None, "an instance");
    store.set("access", "{}");
    keeper.refresh().await.expect("read");
    assert!(reason(keeper.level(&ada("ada")).await).contains("damaged"));
}

#[tokio::test]
async fn a_policy_counts_through_a_short_outage_only() {
    let (store, keeper, ahead) = keeper();
    store.set("access", POLICY);
    keeper.refresh().await.expect("read");
    store.go(true);
    ahead.advance(BELIEVED_FOR);
    keeper.refresh().await.expect_err("out of reach");
    assert_eq!(keeper.level(&ada("ada")).await.expect("known"), Some(Level::Deployer));
    ahead.advance(Duration::from_secs(1));
    assert!(reason(keeper.level(&ada("ada")).await).contains("could not be read"));
    store.go(false);
    keeper.refresh().await.expect("read");
    assert_eq!(keeper.level(&ada("ada")).await.expect("known"), Some(Level::Deployer));
}

async fn create(keeper: &Keeper, name: &str, valid_s: u64) -> Result<CreatedToken, ClusterError> {
    let new = NewToken { name: name.parse().expect("a name"), level: Level::Deployer, valid_s };
    keeper.create(&new, "arn:aws:iam::123456789012:user/ada", Utc::now()).await
}

#[tokio::test]
async fn a_token_is_accepted_until_it_is_revoked() {
    let (store, keeper, _) = keeper();
    let created = create(&keeper, "ci", 3600).await.expect("created");
    let principal = keeper.token(&created.text).await.expect("known").expect("accepted");
    assert_eq!(principal, Principal::Token { name: "ci".into() });
    assert_eq!(keeper.level(&principal).await.expect("known"), Some(Level::Deployer));
    let kept: Vec<String> = store.values.lock().expect("no test panics here").values().cloned().collect();
    let secret = created.text.expose().rsplit('_').next().expect("its secret part").to_owned();
    assert!(kept.iter().all(|text| !text.contains(&secret)), "only the hash is stored");
    let other = created.text.expose().replace("01", "02");
    assert_eq!(keeper.token(&Secret::new(other)).await.expect("known"), None);
    let again = create(&keeper, "ci", 3600).await.expect_err("the name is in use");
    assert!(again.to_string().contains("token revoke ci"), "{again}");
    assert_eq!(keeper.list().await.expect("listed").len(), 1);
    keeper.revoke(&"ci".parse().expect("a name")).await.expect("revoked");
    assert_eq!(keeper.token(&created.text).await.expect("known"), None);
    assert_eq!(keeper.level(&principal).await.expect("known"), None);
    let gone = keeper.revoke(&"ci".parse().expect("a name")).await;
    assert!(matches!(gone, Err(ClusterError::NotFound { what: "token", .. })));
}

#[tokio::test]
async fn a_token_that_another_machine_revoked_is_rejected_after_5_seconds() {
    let (store, keeper, ahead) = keeper();
    let created = create(&keeper, "ci", 3600).await.expect("created");
    assert!(keeper.token(&created.text).await.expect("known").is_some());
    store.values.lock().expect("no test panics here").clear();
    ahead.advance(TOKENS_READ_EVERY + Duration::from_millis(1));
    assert_eq!(keeper.token(&created.text).await.expect("known"), None);
}

#[tokio::test]
async fn a_token_counts_through_a_short_outage_only() {
    let (store, keeper, ahead) = keeper();
    let created = create(&keeper, "ci", 3600).await.expect("created");
    assert!(keeper.token(&created.text).await.expect("known").is_some());
    store.go(true);
    ahead.advance(Duration::from_secs(60));
    assert!(keeper.token(&created.text).await.expect("known").is_some());
    create(&keeper, "other", 60).await.expect_err("nothing is created blindly");
    ahead.advance(BELIEVED_FOR);
    keeper.token(&created.text).await.expect_err("nobody knows");
}

#[tokio::test]
async fn an_expired_token_is_rejected_and_its_name_is_free() {
    let (_, keeper, _) = keeper();
    let new = NewToken { name: "ci".parse().expect("a name"), level: Level::Admin, valid_s: 60 };
    let past = Utc::now() - chrono::TimeDelta::minutes(2);
    let expired = keeper.create(&new, "ada", past).await.expect("created");
    assert_eq!(keeper.token(&expired.text).await.expect("known"), None);
    assert_eq!(keeper.level(&Principal::Token { name: "ci".into() }).await.expect("known"), None);
    let fresh = create(&keeper, "ci", 60).await.expect("created");
    assert!(keeper.token(&fresh.text).await.expect("known").is_some());
    assert_eq!(keeper.token(&expired.text).await.expect("known"), None);
    for valid_s in [0, LONGEST.as_secs() + 1] {
        create(&keeper, "other", valid_s).await.expect_err("out of range");
    }
}
