//! Who calls the pipeline server: by a token, or by a session that a token has opened in a browser.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::driver::pipeline::request::Caller;
use crate::model::access::Level;
use crate::model::name::TokenName;
use crate::model::secret::Secret;
use crate::model::token::{TokenHash, TokenText};
use crate::port::tokens::KnownTokens;

/// How long a session lasts.
pub const SESSION: TimeDelta = TimeDelta::hours(12);
/// How many sessions there are at a time; the oldest ends for one more.
const SESSIONS_MAX: usize = 1000;
/// How many wrong tokens may come from an address in [`ATTEMPTS_IN`].
const ATTEMPTS_MAX: u32 = 10;
/// The time in which wrong tokens are counted.
const ATTEMPTS_IN: TimeDelta = TimeDelta::seconds(60);
/// How many right tokens of an address are remembered.
const RIGHT_MAX: usize = 64;
/// How many addresses are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// A caller whom the server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Its name.
    pub caller: Caller,
    /// What it may do.
    pub level: Level,
    /// What forms of its session bear; `None` for a caller that shows its token.
    pub csrf: Option<String>,
}

/// How a caller has shown who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// By a bearer token, which no browser sends on its own.
    Bearer,
    /// By a password, which a browser repeats.
    Password,
    /// By a session's cookie.
    Cookie,
}

/// A session of a browser.
#[derive(Debug, Clone)]
struct Session {
    /// The token that it was opened with; `None` for the server's own.
    token: Option<(TokenName, TokenHash)>,
    csrf: String,
    until: DateTime<Utc>,
}

/// Everybody who may call.
pub struct Callers {
    own: [u8; 32],
    known: Arc<dyn KnownTokens>,
    /// By the hash of their ids.
    sessions: Mutex<HashMap<[u8; 32], Session>>,
    attempts: Mutex<Attempts>,
    cookie: String,
    secure: bool,
}

impl Callers {
    /// Those who bear the server's own token, or one of `known`. `place` distinguishes the cookies of several servers;
    /// `secure` ones are sent over TLS only.
    pub fn new(own: &Secret<String>, known: Arc<dyn KnownTokens>, place: &str, secure: bool) -> Self {
        let prefix = if secure { "__Host-" } else { "" };
        Self {
            own: digest(own.expose().as_bytes()),
            known,
            sessions: Mutex::default(),
            attempts: Mutex::default(),
            cookie: format!("{prefix}fleetwright-{place}"),
            secure,
        }
    }

    /// Who sends these headers.
    pub fn who(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Option<(Who, Shown)> {
        match authorization(headers) {
            Some((given, shown)) => Some((self.by_token(&given, now)?.0, shown)),
            None => Some((self.by_session(&self.cookie(headers)?, now)?, Shown::Cookie)),
        }
    }

    /// Who sends these headers from that address. Once too many wrong tokens have come from there, only those count for
    /// a minute that were right from there before: whoever works there is not locked out, and a guess that happens to be
    /// right is refused like any other.
    ///
    /// # Errors
    /// When too many wrong tokens have come from there.
    pub fn admit(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Option<(Who, Shown)>, TooMany> {
        let Some((given, _)) = authorization(headers) else { return Ok(self.who(headers, now)) };
        let token = digest(&given);
        lock(&self.attempts).check(from, token, now)?;
        let found = self.who(headers, now);
        match &found {
            Some(_) => lock(&self.attempts).succeeded(from, token),
            None => lock(&self.attempts).failed(from, now),
        }
        Ok(found)
    }

    fn by_token(&self, given: &[u8], now: DateTime<Utc>) -> Option<(Who, Option<(TokenName, TokenHash)>)> {
        if digest(given).ct_eq(&self.own).into() {
            let caller = Caller { name: None };
            return Some((Who { caller, level: Level::Admin, csrf: None }, None));
        }
        let text: TokenText = std::str::from_utf8(given).ok()?.parse().ok()?;
        let level = self.level(text.name(), &text.hash(), now)?;
        let caller = Caller { name: Some(text.name().to_string()) };
        Some((Who { caller, level, csrf: None }, Some((text.name().clone(), text.hash()))))
    }

    /// What the bearer of that token may do, if it is still valid.
    fn level(&self, name: &TokenName, hash: &TokenHash, now: DateTime<Utc>) -> Option<Level> {
        let stored = self.known.token(name)?;
        let same: bool = stored.sha256.as_bytes().ct_eq(hash.as_bytes()).into();
        (same && stored.is_valid(now)).then_some(stored.level)
    }

    fn by_session(&self, id: &str, now: DateTime<Utc>) -> Option<Who> {
        let key = digest(id.as_bytes());
        let session = lock(&self.sessions).get(&key).cloned()?;
        // A session ends with its token.
        let (name, level) = match &session.token {
            None => (None, Some(Level::Admin)),
            Some((name, hash)) => (Some(name.to_string()), self.level(name, hash, now)),
        };
        match level.filter(|_| now < session.until) {
            Some(level) => Some(Who { caller: Caller { name }, level, csrf: Some(session.csrf) }),
            None => {
                lock(&self.sessions).remove(&key);
                None
            }
        }
    }

    /// Opens a session for who bears `token`; gives its cookie.
    ///
    /// # Errors
    /// Why there is none.
    pub fn log_in(&self, token: &str, from: Option<IpAddr>, now: DateTime<Utc>) -> Result<String, NoSession> {
        let given = digest(token.trim().as_bytes());
        lock(&self.attempts).check(from, given, now)?;
        let Some((_, token)) = self.by_token(token.trim().as_bytes(), now) else {
            lock(&self.attempts).failed(from, now);
            return Err(NoSession::Wrong);
        };
        lock(&self.attempts).succeeded(from, given);
        let id = random().map_err(NoSession::NoRandomness)?;
        let csrf = random().map_err(NoSession::NoRandomness)?;
        let mut sessions = lock(&self.sessions);
        sessions.retain(|_, session| now < session.until);
        while sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.until).map(|(key, _)| *key);
            oldest.map(|key| sessions.remove(&key));
        }
        sessions.insert(digest(id.as_bytes()), Session { token, csrf, until: now + SESSION });
        Ok(self.set_cookie(&id, SESSION))
    }

    /// Ends the session; gives what removes its cookie.
    pub fn log_out(&self, headers: &HeaderMap) -> String {
        if let Some(id) = self.cookie(headers) {
            lock(&self.sessions).remove(&digest(id.as_bytes()));
        }
        self.set_cookie("", TimeDelta::zero())
    }

    fn set_cookie(&self, value: &str, lasts: TimeDelta) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        let seconds = lasts.num_seconds();
        format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", self.cookie)
    }

    /// The id of the session in the cookies.
    fn cookie(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, id)| id.to_owned())
    }
}

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub enum NoSession {
    /// The token is not valid.
    #[error("the token is not valid")]
    Wrong,
    /// Too many log-ins from there have failed.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    NoRandomness(getrandom::Error),
}

/// Too many wrong tokens have come from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong tokens have come from this address; try again in {wait} s")]
pub struct TooMany {
    /// After how many seconds tokens are checked again.
    pub wait: i64,
}

/// Tokens that addresses have shown.
#[derive(Debug, Default)]
struct Attempts {
    /// How many wrong ones came from an address, and since when they are counted.
    wrong: HashMap<Option<IpAddr>, (u32, DateTime<Utc>)>,
    /// The hashes of those that were right, the last ones of each address.
    right: HashMap<Option<IpAddr>, VecDeque<[u8; 32]>>,
}

impl Attempts {
    fn check(&self, from: Option<IpAddr>, token: [u8; 32], now: DateTime<Utc>) -> Result<(), TooMany> {
        let Some((count, since)) = self.wrong.get(&from) else { return Ok(()) };
        let wait = (*since + ATTEMPTS_IN - now).num_seconds();
        let known = || self.right.get(&from).is_some_and(|right| right.contains(&token));
        if *count < ATTEMPTS_MAX || now - *since >= ATTEMPTS_IN || known() {
            return Ok(());
        }
        Err(TooMany { wait: wait.max(1) })
    }

    fn succeeded(&mut self, from: Option<IpAddr>, token: [u8; 32]) {
        if self.right.len() >= ADDRESSES_MAX && !self.right.contains_key(&from) {
            self.right.clear();
        }
        let right = self.right.entry(from).or_default();
        if !right.contains(&token) {
            right.push_back(token);
            if right.len() > RIGHT_MAX {
                right.pop_front();
            }
        }
    }

    fn failed(&mut self, from: Option<IpAddr>, now: DateTime<Utc>) {
        if self.wrong.len() >= ADDRESSES_MAX {
            self.wrong.retain(|_, (_, since)| now - *since < ATTEMPTS_IN);
        }
        let (count, since) = self.wrong.entry(from).or_insert((0, now));
        if now - *since >= ATTEMPTS_IN {
            (*count, *since) = (0, now);
        }
        *count += 1;
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// 32 random bytes, in hexadecimal.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The token in a header: a bearer token, or the password of any user. An empty one that is not understood is wrong.
fn authorization(headers: &HeaderMap) -> Option<(Vec<u8>, Shown)> {
    let value = headers.get(header::AUTHORIZATION)?;
    let value = value.to_str().unwrap_or("");
    let (scheme, given) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((given.trim().as_bytes().to_vec(), Shown::Bearer));
    }
    let pair = STANDARD.decode(given.trim()).unwrap_or_default();
    let password = match pair.iter().position(|&byte| byte == b':') {
        Some(at) if scheme.eq_ignore_ascii_case("basic") => pair[at + 1..].to_vec(),
        _ => Vec::new(),
    };
    Some((password, Shown::Password))
}

/// The level that a request needs.
pub fn needed(method: &Method, path: &str) -> Level {
    match *method {
        // As in the cluster: logs may hold what a service should not have printed, and variables what should be a
        // secret.
        Method::GET | Method::HEAD if is_deployers(path) => Level::Deployer,
        Method::GET | Method::HEAD | Method::OPTIONS => Level::Viewer,
        Method::POST if path == "/logout" => Level::Viewer,
        Method::POST => Level::Deployer,
        _ => Level::Admin,
    }
}

/// Whether a page of a service shows what only those see who may deploy it.
fn is_deployers(path: &str) -> bool {
    let of_service = path.strip_prefix("/services/").and_then(|rest| rest.split_once('/'));
    of_service.is_some_and(|(_, what)| matches!(what, "logs" | "logs/raw" | "rollback"))
}

/// Whether another site's page has sent this.
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return true;
    }
    match (text(header::ORIGIN), text(header::HOST)) {
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_none_or(|(_, of)| !of.eq_ignore_ascii_case(host))
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Whether two texts are the same, in constant time.
pub fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::token::{StoredToken, TOKEN_VERSION};

    /// Tokens that can be revoked.
    #[derive(Default)]
    struct Stored(Mutex<Vec<StoredToken>>);

    impl KnownTokens for Stored {
        fn token(&self, name: &TokenName) -> Option<StoredToken> {
            lock(&self.0).iter().find(|token| token.name == *name).cloned()
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time")
    }

    fn anna() -> TokenText {
        TokenText::new("anna".parse().expect("a name"), [7; 32])
    }

    fn callers(level: Level) -> (Callers, Arc<Stored>) {
        let stored = StoredToken {
            version: TOKEN_VERSION,
            name: "anna".parse().expect("a name"),
            level,
            sha256: anna().hash(),
            created: at(0),
            created_by: "root".into(),
            expires: at(100_000),
        };
        let known = Arc::new(Stored(Mutex::new(vec![stored])));
        let own = Secret::new("s3cret:x".to_owned());
        (Callers::new(&own, Arc::clone(&known) as Arc<dyn KnownTokens>, "shop-test", false), known)
    }

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn a_token_is_taken_as_bearer_or_as_password() {
        let (callers, _) = callers(Level::Viewer);
        let who = |value: &str| callers.who(&headers(&[(header::AUTHORIZATION, value)]), at(1));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for good in ["Bearer s3cret:x".to_owned(), "bearer s3cret:x".into(), basic("me:s3cret:x")] {
            let (who, _) = who(&good).expect(&good);
            assert_eq!((who.level, who.caller.name, who.csrf), (Level::Admin, None, None));
        }
        for bad in
            ["Bearer s3cret", "s3cret:x", &basic("s3cret:x"), "Basic %", "Bearer ", "", "Bearer fwt_anna_00"]
        {
            assert_eq!(who(bad), None, "{bad}");
        }
        assert_eq!(callers.who(&HeaderMap::new(), at(1)), None);
        let (named, shown) = who(&format!("Bearer {}", anna().text().expose())).expect("anna");
        assert_eq!((named.level, named.caller.words().as_str()), (Level::Viewer, "by anna"));
        assert_eq!(shown, Shown::Bearer);
        let forged = TokenText::new("anna".parse().expect("a name"), [8; 32]);
        assert_eq!(who(&format!("Bearer {}", forged.text().expose())), None);
    }

    fn cookie(set: &str) -> HeaderMap {
        let pair = set.split(';').next().expect("a pair");
        headers(&[(header::COOKIE, &format!("other=1; {pair}"))])
    }

    #[test]
    fn a_session_ends_with_its_time_its_token_or_a_log_out() {
        let (callers, known) = callers(Level::Deployer);
        let set = callers.log_in(&format!(" {} ", anna().text().expose()), None, at(0)).expect("a session");
        assert!(set.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{set}");
        let (who, shown) = callers.who(&cookie(&set), at(43_199)).expect("anna");
        assert_eq!((who.level, shown), (Level::Deployer, Shown::Cookie));
        assert!(who.csrf.is_some_and(|csrf| csrf.len() == 64));
        assert_eq!(callers.who(&cookie(&set), at(43_200)), None, "its time is over");

        let set = callers.log_in(anna().text().expose(), None, at(0)).expect("a session");
        lock(&known.0).clear();
        assert_eq!(callers.who(&cookie(&set), at(1)), None, "its token is revoked");

        let set = callers.log_in("s3cret:x", None, at(0)).expect("a session");
        assert!(callers.who(&cookie(&set), at(1)).is_some());
        assert!(callers.log_out(&cookie(&set)).contains("Max-Age=0"));
        assert_eq!(callers.who(&cookie(&set), at(1)), None);
    }

    #[test]
    fn what_a_service_prints_and_is_configured_with_is_for_deployers() {
        for (path, level) in [
            ("/services", Level::Viewer),
            ("/services/web", Level::Viewer),
            ("/services/logs", Level::Viewer),
            ("/services/web/logs", Level::Deployer),
            ("/services/web/logs/raw", Level::Deployer),
            ("/services/web/rollback", Level::Deployer),
            ("/stacks", Level::Viewer),
        ] {
            assert_eq!(needed(&Method::GET, path), level, "{path}");
            assert_eq!(needed(&Method::POST, path), Level::Deployer, "{path}");
        }
    }

    #[test]
    fn failed_log_ins_are_limited_by_address() {
        let (callers, _) = callers(Level::Viewer);
        let from = |last| Some(IpAddr::from([10, 0, 0, last]));
        for _ in 0..ATTEMPTS_MAX {
            assert!(matches!(callers.log_in("wrong", from(1), at(0)), Err(NoSession::Wrong)));
        }
        assert!(matches!(callers.log_in("s3cret:x", from(1), at(59)), Err(NoSession::TooMany(_))));
        assert!(callers.log_in("s3cret:x", from(2), at(59)).is_ok());
        assert!(callers.log_in("s3cret:x", from(1), at(60)).is_ok());
    }

    #[test]
    fn wrong_tokens_lock_out_no_token_that_was_right_from_there_before() {
        let (callers, _) = callers(Level::Viewer);
        let from = |last| Some(IpAddr::from([10, 0, 0, last]));
        let bearer = |token: &str| headers(&[(header::AUTHORIZATION, &format!("Bearer {token}"))]);
        let is_known = |token: &str, last, second| {
            callers.admit(&bearer(token), from(last), at(second)).map(|found| found.is_some())
        };
        assert_eq!(is_known("s3cret:x", 1, 0), Ok(true));
        for _ in 0..ATTEMPTS_MAX {
            assert_eq!(is_known("wrong", 1, 0), Ok(false));
        }
        assert_eq!(is_known("wrong", 1, 20), Err(TooMany { wait: 40 }));
        assert_eq!(is_known("s3cret:x", 1, 20), Ok(true), "it was right from there before");
        // A right guess gets the same answer as a wrong one.
        let anna = anna();
        assert_eq!(is_known(anna.text().expose(), 1, 59), Err(TooMany { wait: 1 }));
        assert_eq!(is_known(anna.text().expose(), 2, 59), Ok(true), "nobody has guessed from there");
        assert_eq!(is_known(anna.text().expose(), 1, 60), Ok(true));
        // Without a token there is nothing to guess.
        assert_eq!(callers.admit(&HeaderMap::new(), from(1), at(20)), Ok(None));
    }

    #[test]
    fn there_are_never_too_many_sessions() {
        let (callers, _) = callers(Level::Viewer);
        let first = callers.log_in("s3cret:x", None, at(0)).expect("a session");
        for _ in 0..SESSIONS_MAX {
            callers.log_in("s3cret:x", None, at(1)).expect("a session");
        }
        assert_eq!(lock(&callers.sessions).len(), SESSIONS_MAX);
        assert_eq!(callers.who(&cookie(&first), at(2)), None);
    }

    #[test]
    fn other_sites_are_told_apart() {
        let site = header::HeaderName::from_static("sec-fetch-site");
        let origin = |origin| headers(&[(header::HOST, "127.0.0.1:7070"), (header::ORIGIN, origin)]);
        for own in [
            HeaderMap::new(),
            headers(&[(site.clone(), "same-origin")]),
            headers(&[(site.clone(), "none")]),
            origin("http://127.0.0.1:7070"),
        ] {
            assert!(!is_cross_site(&own), "{own:?}");
        }
        for other in [
            headers(&[(site.clone(), "cross-site")]),
            headers(&[(site, "same-site")]),
            origin("http://127.0.0.1:7071"),
            origin("https://evil.example"),
            origin("null"),
        ] {
            assert!(is_cross_site(&other), "{other:?}");
        }
    }
}
