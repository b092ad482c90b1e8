//! Options of the HTTP gateway: the `[gateway]` table of a TOML file, `gateway.*` of a worker's flat file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use ottla_api::config::{Config, ConfigValue, Properties, Secret, java_regex, split_list};
use regex::Regex;

use super::ByteSize;

/// The HTTP gateway: Kafka REST Proxy v2 and the paths of an API gateway in front of Kinesis.
#[derive(Debug, Clone, Config)]
pub struct GatewayConfig {
    /// Address and port to listen on. One that is not of this machine alone (`0.0.0.0:8082`) needs `auth.api.keys` or
    /// `auth.basic.users.*`.
    #[config(name = "listener", default = "127.0.0.1:8082", importance = "high")]
    pub listener: ListenAddress,
    /// Keys that callers send in the header `x-api-key`; any of them will do. Keep them out of the file:
    /// `"${env:GATEWAY_KEY}"`.
    #[config(name = "auth.api.keys")]
    pub api_keys: Option<SecretList>,
    /// Users of HTTP Basic authentication: `auth.basic.users.<name> = "<password>"`, or an argon2id hash of it
    /// (`$argon2id$v=19$...`).
    #[config(prefix = "auth.basic.users.")]
    pub basic_users: Vec<(String, Secret)>,
    /// Names of this gateway beside localhost, its own address and the loopback ones. A request whose `Host` or `Origin` is
    /// another one is refused, so that no web page that somebody visits can write into topics. A listener that asks for
    /// authentication checks this only where names are given.
    #[config(name = "hosts")]
    pub hosts: Option<Vec<String>>,
    /// Largest body of a request.
    #[config(name = "body.bytes.max", default = "1MiB")]
    pub body_max: ByteSize,
    /// Largest head of a request: its first line and its headers.
    #[config(name = "header.bytes.max", default = "32KiB")]
    pub header_max: ByteSize,
    /// How long a request may take from its head to its answer, its body's way here included.
    #[config(name = "request.timeout.ms", default = "30000", min = 1)]
    pub request_timeout: Duration,
    /// How long the head of a request may take to arrive. A connection that is quiet for so long is closed, too.
    #[config(name = "header.timeout.ms", default = "10000", min = 1)]
    pub header_timeout: Duration,
    /// Most connections at a time. One more is told so and closed.
    #[config(name = "connections.max", default = "256", min = 1, max = 100000)]
    pub connections_max: usize,
    /// How long a consumer instance that nobody asks anything lives (REST Proxy's own key and default).
    #[config(name = "consumer.instance.timeout.ms", default = "300000", min = 1)]
    pub consumer_instance_timeout: Duration,
    /// Most consumer instances at a time.
    #[config(name = "consumers.max", default = "100", min = 1, max = 10000)]
    pub consumers_max: usize,
    /// Where Kinesis is for the `/streams` paths: `embedded` (the one in the worker's `state.dir`), or the address of an
    /// endpoint such as `http://localhost:4568`. Unset, AWS in `kinesis.region`.
    #[config(name = "kinesis.endpoint")]
    pub kinesis_endpoint: Option<String>,
    /// Region of the streams.
    #[config(name = "kinesis.region", default = "us-east-1")]
    pub kinesis_region: String,
    /// Key id for Kinesis, together with `aws.secret.key.id`. Unset, the usual places are searched: environment, profile
    /// files, web identity, container and instance metadata.
    #[config(name = "aws.access.key.id")]
    pub access_key_id: Option<String>,
    /// Secret of the key.
    #[config(name = "aws.secret.key.id", aliases = "aws.secret.access.key")]
    pub secret_access_key: Option<Secret>,
    /// What values must look like before they may enter a topic or a stream: `require.<name>.fields = ["index", "title"]`
    /// (the value is an object that has these), and `require.<name>.schema` (a JSON Schema, as a file's name or written
    /// here). `<name>` is a topic or a stream; with other characters than letters, digits, `.`, `_` and `-` it is a
    /// Java regular expression for their whole names. Whoever sends something else gets 422, and nothing of that
    /// request is written.
    #[config(prefix = "require.")]
    pub require: Vec<(String, String)>,
}

/// What the values of some topics or streams must look like.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// Of which ones, as the file writes it.
    pub name: String,
    /// For a `name` that is an expression.
    pub pattern: Option<Regex>,
    /// Fields that a value must have.
    pub fields: Vec<String>,
    /// A JSON Schema, or the name of a file that holds one.
    pub schema: Option<String>,
}

impl Requirement {
    /// True where it is about this topic or stream.
    pub fn covers(&self, name: &str) -> bool {
        match &self.pattern {
            Some(pattern) => pattern.find(name).is_some_and(|found| found.len() == name.len()),
            None => self.name == name,
        }
    }
}

impl GatewayConfig {
    /// True where callers must say who they are.
    pub fn asks_who_calls(&self) -> bool {
        self.api_keys.as_ref().is_some_and(|keys| !keys.is_empty()) || !self.basic_users.is_empty()
    }

    /// The guards, and what is wrong with them: key and message.
    pub fn requirements(&self) -> (Vec<Requirement>, Vec<(String, String)>) {
        let (mut found, mut mistakes) = (Vec::<Requirement>::new(), Vec::new());
        for (rest, text) in &self.require {
            let key = format!("require.{rest}");
            let Some((name, option)) =
                rest.rsplit_once('.').filter(|(_, option)| ["fields", "schema"].contains(option))
            else {
                let message = "must be require.<topic>.fields or require.<topic>.schema";
                mistakes.push((key, message.to_owned()));
                continue;
            };
            let index = found.iter().position(|requirement| requirement.name == name).unwrap_or_else(|| {
                let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
                let pattern = (!plain).then(|| java_regex::full_match(name)).transpose();
                let pattern = pattern.unwrap_or_else(|message| {
                    mistakes.push((key.clone(), format!("'{name}': {message}")));
                    None
                });
                found.push(Requirement { name: name.to_owned(), pattern, fields: Vec::new(), schema: None });
                found.len() - 1
            });
            if option == "schema" {
                found[index].schema = Some(text.trim().to_owned());
            } else {
                found[index].fields = split_list(text);
                if found[index].fields.is_empty() {
                    mistakes.push((key, "must name at least one field".to_owned()));
                }
            }
        }
        (found, mistakes)
    }

    /// What one option alone can't show: key and message.
    pub(crate) fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = self.requirements().1;
        let mut wrong = |key: &str, message: &str| mistakes.push((key.to_owned(), message.to_owned()));
        if !self.listener.ip().is_loopback() && !self.asks_who_calls() {
            let message = "can be reached from other machines, and nothing asks who calls: set auth.api.keys or \
                           auth.basic.users.<name>, or listen on a loopback address such as 127.0.0.1:8082";
            wrong("listener", message);
        }
        // What is set and empty (an unset variable, say) must not open the door.
        if self.api_keys.as_ref().is_some_and(|keys| keys.is_empty() || keys.iter().any(|key| key.expose().is_empty()))
        {
            wrong("auth.api.keys", "must hold at least one key, and none that is empty");
        }
        for (name, password) in &self.basic_users {
            let key = format!("auth.basic.users.{name}");
            if password.expose().is_empty() {
                wrong(&key, "must not be empty");
            } else if password.expose().starts_with("$argon2") && !password.expose().starts_with("$argon2id$") {
                wrong(&key, "must be a password or an argon2id hash ($argon2id$..), found another kind of hash");
            }
        }
        if self.body_max.0 == 0 {
            wrong("body.bytes.max", "must be at least 1");
        }
        if self.header_max.0 < 1024 {
            wrong("header.bytes.max", "must be at least 1KiB");
        }
        let key_and_secret = (self.access_key_id.is_some(), self.secret_access_key.is_some());
        match key_and_secret {
            (true, false) => wrong("aws.secret.key.id", "is missing; aws.access.key.id is set and needs it"),
            (false, true) => wrong("aws.access.key.id", "is missing; aws.secret.key.id is set and needs it"),
            _ => {}
        }
        if let Some(endpoint) = &self.kinesis_endpoint {
            let endpoint = endpoint.trim();
            if endpoint != "embedded" && !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                wrong("kinesis.endpoint", "must be embedded, or an address such as http://localhost:4568");
            }
        }
        mistakes
    }

    /// The options of the connection to Kinesis by the names that the Kinesis connectors have for them.
    pub fn kinesis(&self) -> Properties {
        let mut properties = Properties::new();
        properties.set("kinesis.region", self.kinesis_region.as_str());
        if let Some(endpoint) = &self.kinesis_endpoint {
            properties.set("kinesis.endpoint", endpoint.trim());
        }
        if let (Some(id), Some(secret)) = (&self.access_key_id, &self.secret_access_key) {
            properties.set("aws.access.key.id", id.as_str());
            properties.set("aws.secret.key.id", secret.expose());
        }
        properties
    }

    /// The passwords, or their hashes, by user.
    pub fn users(&self) -> BTreeMap<&str, &Secret> {
        self.basic_users.iter().map(|(name, password)| (name.as_str(), password)).collect()
    }
}

/// An address and a port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(SocketAddr);

impl ConfigValue for ListenAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("must be an address and a port such as 127.0.0.1:8082, found '{text}'");
        text.trim().parse().map(Self).map_err(wrong)
    }

    fn type_name() -> Cow<'static, str> {
        "address:port".into()
    }
}

impl Deref for ListenAddress {
    type Target = SocketAddr;

    fn deref(&self) -> &SocketAddr {
        &self.0
    }
}

/// A comma list of texts that are never shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretList(Vec<Secret>);

impl ConfigValue for SecretList {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(split_list(text).into_iter().map(Secret::new).collect()))
    }

    fn type_name() -> Cow<'static, str> {
        "list of password".into()
    }

    fn is_secret() -> bool {
        true
    }
}

impl Deref for SecretList {
    type Target = [Secret];

    fn deref(&self) -> &[Secret] {
        &self.0
    }
}
