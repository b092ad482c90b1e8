//! Who may call: API keys and HTTP Basic authentication.
//!
//! Nothing that a caller sends is compared with a secret directly: both go through a hash with a key of this process, and
//! the hashes are compared in constant time, so neither a secret's beginning nor its length can be timed. An argon2id hash is
//! computed once for each password that is right; a wrong one costs its sender that time again and again, two at a time.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blake2::{Blake2s256, Digest as _};
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use ottla_api::{Error, Result};
use ottla_runtime::config::GatewayConfig;
use parking_lot::Mutex;
use subtle::{Choice, ConstantTimeEq as _};
use tokio::sync::Semaphore;

use crate::error::{Api, Failure, code};

/// So many failures of one address within [`FAILURES_FOR`], and it has to wait.
const FAILURES_MAX: u32 = 20;
/// How long failures are remembered.
const FAILURES_FOR: Duration = Duration::from_secs(60);
/// How many addresses with failures are remembered.
const ADDRESSES_MAX: usize = 10_000;
/// How many argon2id hashes are computed at a time: each takes a core and 19 MiB.
const HASHES_MAX: usize = 2;
/// Longest password that is looked at.
const PASSWORD_MAX: usize = 1024;

type Hashed = [u8; 32];

/// Decides who may call.
pub(crate) struct Auth {
    /// Of this process.
    key: [u8; 32],
    api_keys: Vec<Hashed>,
    users: BTreeMap<String, Password>,
    /// Names and passwords that were right, hashed together.
    known: Mutex<Vec<Hashed>>,
    hashing: Semaphore,
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

#[derive(Clone)]
enum Password {
    Plain(Hashed),
    Argon2(Arc<str>),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({} keys, {} users)", self.api_keys.len(), self.users.len())
    }
}

impl Auth {
    /// # Errors
    ///
    /// A hash that is none, with its key.
    pub(crate) fn new(config: &GatewayConfig) -> Result<Self> {
        let key = rand::random();
        let api_keys = config.api_keys.iter().flat_map(|keys| keys.iter());
        let api_keys = api_keys.map(|secret| hashed(&key, &[secret.expose()])).collect();
        let mut users = BTreeMap::new();
        for (name, secret) in config.users() {
            let password = if secret.expose().starts_with("$argon2id$") {
                PasswordHash::new(secret.expose()).map_err(|_| {
                    Error::config(format!(
                        "gateway.auth.basic.users.{name}: must be a password or an argon2id hash as argon2 prints it with -e"
                    ))
                })?;
                Password::Argon2(secret.expose().into())
            } else {
                Password::Plain(hashed(&key, &[secret.expose()]))
            };
            users.insert(name.to_owned(), password);
        }
        Ok(Self {
            key,
            api_keys,
            users,
            known: Mutex::default(),
            hashing: Semaphore::new(HASHES_MAX),
            failures: Mutex::default(),
        })
    }

    /// True where callers must say who they are.
    pub(crate) fn asks(&self) -> bool {
        !self.api_keys.is_empty() || !self.users.is_empty()
    }

    /// Lets a request pass, or says what is missing.
    pub(crate) async fn check(&self, headers: &HeaderMap, from: IpAddr, api: Api) -> std::result::Result<(), Failure> {
        if !self.asks() {
            return Ok(());
        }
        let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let api_key = text("x-api-key");
        let basic = text(AUTHORIZATION.as_str());
        if api_key.as_deref().is_some_and(|key| self.is_api_key(key)) {
            return Ok(());
        }
        let user = basic.as_deref().and_then(user_and_password);
        if let Some((name, password)) = &user {
            // Whoever was right before is not kept waiting by somebody else at the same address.
            if self.is_known(name, password) {
                return Ok(());
            }
            if !self.must_wait(from) && self.is_user(name, password).await {
                return Ok(());
            }
        }
        if self.must_wait(from) {
            let message = "too many wrong keys or passwords from your address; wait a minute";
            let seconds = FAILURES_FOR.as_secs().to_string();
            return Err(Failure::of(api, StatusCode::TOO_MANY_REQUESTS, message).header(RETRY_AFTER, &seconds));
        }
        let said = if api_key.is_some() || basic.is_some() {
            self.failed(from);
            "the key, or the user and the password, are not right"
        } else {
            "who calls is not said"
        };
        Err(self.refusal(said, api))
    }

    fn refusal(&self, said: &str, api: Api) -> Failure {
        let mut ways = Vec::new();
        if !self.api_keys.is_empty() {
            ways.push("a key in the header x-api-key");
        }
        if !self.users.is_empty() {
            ways.push("a user and a password by HTTP Basic authentication (requests: auth=(user, password))");
        }
        let message = format!("{said}; send {}", ways.join(", or "));
        let basic = |failure: Failure| failure.header(WWW_AUTHENTICATE, "Basic realm=\"ottla\", charset=\"UTF-8\"");
        match (api, self.users.is_empty()) {
            // An API gateway answers 403 to a missing or wrong key.
            (Api::Kinesis, true) => Failure::of(api, StatusCode::FORBIDDEN, format!("Forbidden: {message}")),
            (Api::Kinesis, false) => {
                basic(Failure::of(api, StatusCode::UNAUTHORIZED, format!("Unauthorized: {message}")))
            }
            (Api::Kafka, true) => Failure::kafka(code::UNAUTHORIZED, message),
            (Api::Kafka, false) => basic(Failure::kafka(code::UNAUTHORIZED, message)),
        }
    }

    fn is_api_key(&self, key: &str) -> bool {
        contains(&self.api_keys, &hashed(&self.key, &[key]))
    }

    fn is_known(&self, name: &str, password: &str) -> bool {
        contains(&self.known.lock(), &hashed(&self.key, &[name, password]))
    }

    async fn is_user(&self, name: &str, password: &str) -> bool {
        if password.len() > PASSWORD_MAX {
            return false;
        }
        let user = self.users.get(name);
        // Whether a user exists must not show in the time that a refusal takes: a stranger is measured as somebody else.
        let measure = user.or_else(|| self.users.values().find(|password| matches!(password, Password::Argon2(_))));
        let fits = match measure {
            None => false,
            Some(Password::Plain(secret)) => bool::from(secret.ct_eq(&hashed(&self.key, &[password]))),
            Some(Password::Argon2(secret)) => {
                let Ok(_permit) = self.hashing.acquire().await else { return false };
                let (secret, password) = (Arc::clone(secret), password.to_owned());
                let verify = move || {
                    PasswordHash::new(&secret)
                        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
                };
                tokio::task::spawn_blocking(verify).await.unwrap_or(false)
            }
        };
        let right = fits && user.is_some();
        if right {
            // One for each user that calls: only what is right comes in here.
            self.known.lock().push(hashed(&self.key, &[name, password]));
        }
        right
    }

    fn must_wait(&self, from: IpAddr) -> bool {
        let failures = self.failures.lock();
        failures.get(&from).is_some_and(|(count, since)| *count >= FAILURES_MAX && since.elapsed() < FAILURES_FOR)
    }

    fn failed(&self, from: IpAddr) {
        let mut failures = self.failures.lock();
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&from) {
            failures.retain(|_, (_, since)| since.elapsed() < FAILURES_FOR);
            if failures.len() >= ADDRESSES_MAX {
                failures.clear();
            }
        }
        let entry = failures.entry(from).or_insert((0, Instant::now()));
        if entry.1.elapsed() >= FAILURES_FOR {
            *entry = (0, Instant::now());
        }
        entry.0 += 1;
    }
}

fn hashed(key: &[u8; 32], parts: &[&str]) -> Hashed {
    let mut digest = Blake2s256::new();
    digest.update(key);
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().into()
}

/// Looks at all of them, so that the time does not tell which one it was.
fn contains(all: &[Hashed], one: &Hashed) -> bool {
    all.iter().fold(Choice::from(0), |found, other| found | other.ct_eq(one)).into()
}

fn user_and_password(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hyper::header::HeaderValue;
    use ottla_api::config::{Config as _, Properties};

    use super::*;
    use crate::answer::Answer;

    /// The password is "correct horse".
    const HASH: &str = "$argon2id$v=19$m=1024,t=1,p=1$c29tZXNhbHQ$";

    fn auth(options: &[(&str, &str)]) -> Auth {
        let properties = Properties::from_iter(options.iter().copied());
        Auth::new(&GatewayConfig::from_properties(&properties).expect("valid options")).expect("usable options")
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn basic(user: &str, password: &str) -> HeaderMap {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        headers(&[("authorization", &format!("Basic {encoded}"))])
    }

    async fn status(auth: &Auth, headers: &HeaderMap, api: Api) -> u16 {
        match auth.check(headers, Ipv4Addr::LOCALHOST.into(), api).await {
            Ok(()) => 200,
            Err(failure) => failure.status.as_u16(),
        }
    }

    fn argon2id(password: &str) -> String {
        use argon2::{Algorithm, Params, Version};
        let params = Params::new(1024, 1, 1, Some(32)).unwrap();
        let mut out = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), b"somesalt", &mut out)
            .unwrap();
        format!("{HASH}{}", base64::prelude::BASE64_STANDARD_NO_PAD.encode(out))
    }

    #[tokio::test]
    async fn keys_and_users_open_the_door_and_nothing_else_does() {
        let hash = argon2id("correct horse");
        let auth =
            auth(&[("auth.api.keys", "one, two"), ("auth.basic.users.ann", "plain"), ("auth.basic.users.bob", &hash)]);
        for right in [
            headers(&[("x-api-key", "two")]),
            basic("ann", "plain"),
            basic("bob", "correct horse"),
            basic("bob", "correct horse"),
        ] {
            assert_eq!(status(&auth, &right, Api::Kafka).await, 200);
        }
        for wrong in [
            headers(&[]),
            headers(&[("x-api-key", "tw")]),
            headers(&[("x-api-key", "")]),
            headers(&[("authorization", "Bearer one")]),
            headers(&[("authorization", "Basic !!")]),
            basic("ann", "correct horse"),
            basic("bob", "plain"),
            basic("bob", &hash),
            basic("carl", "correct horse"),
        ] {
            assert_eq!(status(&auth, &wrong, Api::Kafka).await, 401);
        }
        assert_eq!(format!("{auth:?}"), "Auth(2 keys, 2 users)");
    }

    #[tokio::test]
    async fn each_interface_refuses_in_its_own_way() {
        let keys_only = auth(&[("auth.api.keys", "one")]);
        let from = Ipv4Addr::LOCALHOST.into();
        let body = |failure: Failure| {
            let answer = Answer::from(failure);
            (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
        };
        let kinesis = keys_only.check(&HeaderMap::new(), from, Api::Kinesis).await.unwrap_err();
        assert_eq!(
            body(kinesis),
            (
                403,
                r#"{"__type":"ForbiddenException","message":"Forbidden: who calls is not said; send a key in the header x-api-key"}"#
                    .to_owned()
            )
        );
        let kafka = keys_only.check(&HeaderMap::new(), from, Api::Kafka).await.unwrap_err();
        assert_eq!(
            body(kafka),
            (
                401,
                r#"{"error_code":40101,"message":"who calls is not said; send a key in the header x-api-key"}"#
                    .to_owned()
            )
        );
    }

    #[tokio::test]
    async fn guessing_is_stopped_and_who_was_right_is_not() {
        let auth = auth(&[("auth.basic.users.ann", "plain"), ("auth.basic.users.eve", "other")]);
        assert_eq!(status(&auth, &basic("ann", "plain"), Api::Kafka).await, 200);
        for _ in 0..FAILURES_MAX {
            assert_eq!(status(&auth, &basic("ann", "guess"), Api::Kafka).await, 401);
        }
        assert_eq!(status(&auth, &basic("ann", "guess"), Api::Kafka).await, 429);
        assert_eq!(status(&auth, &basic("eve", "other"), Api::Kafka).await, 429);
        assert_eq!(status(&auth, &basic("ann", "plain"), Api::Kafka).await, 200);
    }

    #[test]
    fn a_hash_that_is_none_is_refused_without_showing_it() {
        let properties = Properties::from_iter([("auth.basic.users.ann", "$argon2id$secret")]);
        let config = GatewayConfig::from_properties(&properties).unwrap();
        let error = Auth::new(&config).unwrap_err().to_string();
        assert_eq!(
            error,
            "gateway.auth.basic.users.ann: must be a password or an argon2id hash as argon2 prints it with -e"
        );
    }
}
