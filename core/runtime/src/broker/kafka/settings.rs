//! Client settings: Kafka's Java names in, librdkafka's out.
//!
//! # Layers
//!
//! A producer's settings are, later ones winning: our defaults, the worker's top-level security settings
//! (`security.protocol`, `sasl.*`, `ssl.*`), the worker's `producer.*`, the connector's `producer.override.*`. A consumer's
//! likewise. The administrative client has the worker's other top-level client settings too, then `admin.*`.
//!
//! Kafka Connect does not let connectors' clients inherit top-level security settings; that they have to be written three
//! times is its users' most common mistake. Here the prefixed ones are only needed where they differ.
//!
//! # Names
//!
//! Files written for Java clients work: what librdkafka calls otherwise is translated, what only means something to a Java
//! client (serializers, `max.poll.records`) is left out, and what asks for something that is not there (Kerberos, IAM, JKS
//! stores) is a [`Config`](ottla_api::ErrorKind::Config) error that says what to do instead. librdkafka's own names work too.

use ottla_api::config::Properties;
use ottla_api::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

/// Which client the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Producer,
    Consumer,
    Admin,
}

impl Role {
    fn prefix(self) -> &'static str {
        match self {
            Self::Producer => "producer.",
            Self::Consumer => "consumer.",
            Self::Admin => "admin.",
        }
    }

    /// What differs from librdkafka's defaults, before anybody's settings.
    fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Producer => &[
                ("acks", "all"),
                // Retries neither repeat nor reorder records.
                ("enable.idempotence", "true"),
                // A broker that is away is waited for, as Kafka Connect does (its delivery.timeout.ms is 24 days).
                ("message.timeout.ms", "0"),
                // The same key goes to the same partition as from a Java producer.
                ("partitioner", "murmur2_random"),
                // A topic that is not there and is not made by the broker is an error of the record after this time.
                ("topic.metadata.propagation.max.ms", "10000"),
                // How long a request waits to be filled. A lone record is acknowledged within this and a round trip; with less,
                // a source of many pays for half-empty requests (0: a third more CPU a record, 1: a tenth). Nothing is
                // compressed, as in Kafka Connect: on two cores lz4 and snappy neither won nor lost, zstd cost a tenth.
                ("linger.ms", "5"),
                // Tasks send batches of a few thousand records; 16 tasks have to fit beside the sinks' buffers.
                ("queue.buffering.max.kbytes", "16384"),
            ],
            Self::Consumer => &[
                ("isolation.level", "read_committed"),
                ("allow.auto.create.topics", "false"),
                // Memory of one consumer, which `consumer_config` divides up: what it has fetched, and the response it came in.
                ("queued.max.messages.kbytes", "1024"),
                ("fetch.message.max.bytes", "1048576"),
                ("fetch.max.bytes", "2097152"),
                // Whenever its queue is full, which is often with so small a one, librdkafka fetches nothing for this time.
                ("fetch.queue.backoff.ms", "5"),
                // A member learns from the answer to a heartbeat that others have joined. Tasks of one worker join one after the other,
                // and the first has all partitions until then.
                ("heartbeat.interval.ms", "500"),
                // Half of it is how long librdkafka waits with the first connection to the coordinator; it doubles with failures.
                ("reconnect.backoff.ms", "20"),
                // New partitions of a topic, and topics that appear, are noticed after this time.
                ("topic.metadata.refresh.interval.ms", "10000"),
            ],
            Self::Admin => &[("isolation.level", "read_committed"), ("allow.auto.create.topics", "false")],
        }
    }
}

/// Where the cluster is, and the worker's client settings as written.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    bootstrap: String,
    client: Properties,
}

impl Settings {
    pub(super) fn new(bootstrap: &str, client: &Properties) -> Self {
        Self { bootstrap: bootstrap.to_owned(), client: client.clone() }
    }

    /// Whether the worker's settings hold this one, as written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.client.contains(key)
    }

    /// The configuration of a consumer that may hold so many bytes: half of them wait for the application (see
    /// `consumer`), half are librdkafka's.
    pub(super) fn consumer_config(&self, own: &Properties, ahead_bytes_max: usize) -> Result<ClientConfig> {
        let queue = (ahead_bytes_max / 4).max(64 << 10);
        let of_partition = (queue / 2).min(1 << 20);
        self.config(
            Role::Consumer,
            own,
            &[
                ("queued.max.messages.kbytes", (queue >> 10).to_string()),
                ("fetch.message.max.bytes", of_partition.to_string()),
                // librdkafka wants room for `message.max.bytes`; what a partition may send bounds it in fact.
                ("fetch.max.bytes", queue.max(1 << 20).to_string()),
            ],
        )
    }

    /// The configuration of a client, with `own` on top of the worker's settings.
    pub(super) fn client_config(&self, role: Role, own: &Properties) -> Result<ClientConfig> {
        self.config(role, own, &[])
    }

    fn config(&self, role: Role, own: &Properties, defaults: &[(&str, String)]) -> Result<ClientConfig> {
        let mut merged = Properties::new();
        for (key, value) in self.client.iter() {
            if is_security(key) || (role == Role::Admin && ADMIN_TOP_LEVEL.contains(&key)) {
                merged.set(key, value);
            }
        }
        for (key, value) in self.client.with_prefix(role.prefix()).iter().chain(own.iter()) {
            merged.set(key, value);
        }

        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        for (key, value) in role.defaults() {
            config.set(*key, *value);
        }
        for (key, value) in defaults {
            config.set(*key, value);
        }
        for (key, value) in translate(role, &merged)? {
            config.set(key, value);
        }
        // Which lines are shown is for the log's filter to say.
        let debug = merged.contains("debug");
        config.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        config.create_native_config().map_err(|error| refused(&error))?;
        Ok(config)
    }
}

fn is_security(key: &str) -> bool {
    key == "security.protocol" || key.starts_with("sasl.") || key.starts_with("ssl.")
}

/// Unprefixed settings that mean the administrative client. A worker's file holds many others that mean no client at all.
const ADMIN_TOP_LEVEL: &[&str] = &[
    "client.dns.lookup",
    "connections.max.idle.ms",
    "debug",
    "metadata.max.age.ms",
    "receive.buffer.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "send.buffer.bytes",
    "socket.connection.setup.timeout.ms",
];

/// Java's names for what librdkafka has under another one, and librdkafka's second names: two names of one setting must not
/// meet, because which of them wins is chance.
const RENAMED: &[(&str, &str)] = &[
    ("compression.type", "compression.codec"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("max.request.size", "message.max.bytes"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("request.required.acks", "acks"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
];

/// What only means something to a Java client, or is decided elsewhere.
const WITHOUT_MEANING: &[&str] = &[
    // Decided by the runtime.
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "max.poll.records",
    "topic.refresh.interval.ms",
    "transactional.id",
    // Java's own.
    "auto.include.jmx.reporter",
    "default.api.timeout.ms",
    "exclude.internal.topics",
    "interceptor.classes",
    "key.deserializer",
    "key.serializer",
    "max.block.ms",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partitioner.ignore.keys",
    "security.providers",
    "socket.connection.setup.timeout.max.ms",
    "ssl.enabled.protocols",
    "ssl.keymanager.algorithm",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "ssl.truststore.password",
    "ssl.truststore.type",
    "value.deserializer",
    "value.serializer",
];

/// What librdkafka is to be told for these settings.
fn translate(role: Role, settings: &Properties) -> Result<Vec<(String, String)>> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| {
        out.retain(|(name, _)| name != key);
        out.push((key.to_owned(), value.to_owned()));
    };
    // Credentials first: a user name given by librdkafka's own key wins over the one in the Java form.
    if let Some(jaas) = settings.get("sasl.jaas.config") {
        let (username, password) = jaas_credentials(jaas)?;
        set("sasl.username", &username);
        set("sasl.password", &password);
    }
    for (key, value) in settings.iter() {
        let value = value.trim();
        if WITHOUT_MEANING.contains(&key) {
            continue;
        }
        match key {
            "sasl.jaas.config" => {}
            "sasl.mechanism" | "sasl.mechanisms" => set("sasl.mechanisms", supported_mechanism(value)?),
            "sasl.client.callback.handler.class"
            | "sasl.login.callback.handler.class"
            | "sasl.login.class"
            | "ssl.engine.factory.class" => {
                let hint = if value.contains("IAM") {
                    "AWS_MSK_IAM is not supported yet; MSK also offers SCRAM (sasl.mechanism = SCRAM-SHA-512)"
                } else {
                    "Java classes can't be loaded; take the setting out"
                };
                return Err(Error::config(format!("{key}: {hint}")));
            }
            "ssl.truststore.location" => {
                if !is_pem(settings.get("ssl.truststore.type"), value) {
                    return Err(Error::config(format!(
                        "{key}: only PEM files are read, and this is a Java store; export the certificates \
                         (keytool -exportcert -rfc) and set ssl.truststore.type = PEM"
                    )));
                }
                set("ssl.ca.location", value);
            }
            "ssl.keystore.location" => {
                match settings.get("ssl.keystore.type").map(str::to_ascii_uppercase).as_deref() {
                    Some("JKS") => {
                        return Err(Error::config(format!(
                            "{key}: JKS stores can't be read; convert it (keytool -importkeystore -deststoretype PKCS12) and \
                         set ssl.keystore.type = PKCS12"
                        )));
                    }
                    kind if kind == Some("PEM") || (kind.is_none() && is_pem(None, value)) => {
                        set("ssl.certificate.location", value);
                        set("ssl.key.location", value);
                    }
                    _ => set(key, value),
                }
            }
            "ssl.endpoint.identification.algorithm" => set(key, if value.is_empty() { "none" } else { value }),
            "transaction.timeout.ms" if role != Role::Producer => {}
            "buffer.memory" => match value.parse::<u64>() {
                Ok(bytes) => set("queue.buffering.max.kbytes", &(bytes / 1024).max(1).to_string()),
                Err(_) => return Err(Error::config(format!("{key}: must be a number of bytes, found '{value}'"))),
            },
            // For a producer librdkafka means the same by it: how long the broker may wait for replicas.
            "request.timeout.ms" if role != Role::Producer => set("socket.timeout.ms", value),
            "metadata.max.age.ms" => {
                set("metadata.max.age.ms", value);
                set("topic.metadata.refresh.interval.ms", value);
            }
            // Java: -1 for the system's default. librdkafka: 0.
            "receive.buffer.bytes" if value == "-1" => {}
            "send.buffer.bytes" if value == "-1" => {}
            "group.protocol" if !value.eq_ignore_ascii_case("classic") => {
                return Err(Error::config(format!("{key}: only 'classic' is supported yet, found '{value}'")));
            }
            "partition.assignment.strategy" => {
                if value != "cooperative-sticky" && !value.ends_with(".CooperativeStickyAssignor") {
                    return Err(Error::config(format!(
                        "{key}: members of a group agree on 'cooperative-sticky' here, found '{value}'; take the setting \
                         out, and stop the group's other members before the first start"
                    )));
                }
            }
            "partitioner.class" => {
                return Err(Error::config(format!("{key}: Java classes can't be loaded; take the setting out")));
            }
            _ => {
                let name = RENAMED.iter().find(|(java, _)| *java == key).map_or(key, |(_, name)| name);
                set(name, value);
            }
        }
    }
    Ok(out)
}

/// Whether a store is a PEM file, by its declared type or else by its name.
fn is_pem(declared: Option<&str>, location: &str) -> bool {
    match declared {
        Some(kind) => kind.trim().eq_ignore_ascii_case("PEM"),
        None => [".pem", ".crt", ".cer"].iter().any(|ending| location.to_ascii_lowercase().ends_with(ending)),
    }
}

fn supported_mechanism(mechanism: &str) -> Result<&str> {
    let hint = match mechanism {
        "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => return Ok(mechanism),
        "AWS_MSK_IAM" => "is not supported yet; MSK also offers SCRAM-SHA-512",
        "GSSAPI" | "OAUTHBEARER" => "is not supported yet",
        _ => "is unknown",
    };
    Err(Error::config(format!(
        "sasl.mechanism: '{mechanism}' {hint}; there are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512"
    )))
}

/// User name and password of a JAAS line, `<module> required username="u" password="p";`.
fn jaas_credentials(jaas: &str) -> Result<(String, String)> {
    // Nothing of the line but the module's name is ever repeated: the rest is a secret.
    let module = jaas.split_whitespace().next().unwrap_or_default().to_owned();
    if !module.ends_with("PlainLoginModule") && !module.ends_with("ScramLoginModule") {
        let hint = if module.ends_with("IAMLoginModule") { ": AWS_MSK_IAM is not supported yet" } else { "" };
        return Err(Error::config(format!(
            "sasl.jaas.config: the login module must be PlainLoginModule or ScramLoginModule, found '{module}'{hint}"
        )));
    }
    let option = |name: &str| jaas_option(jaas, name);
    match (option("username"), option("password")) {
        (Some(username), Some(password)) => Ok((username, password)),
        _ => Err(Error::config("sasl.jaas.config: must hold username=\"..\" and password=\"..\"")),
    }
}

fn jaas_option(jaas: &str, name: &str) -> Option<String> {
    let mut rest = jaas;
    loop {
        let at = rest.find(name)?;
        let begins_word = rest[..at].ends_with(char::is_whitespace);
        let after = rest[at + name.len()..].trim_start();
        let Some(value) = after.strip_prefix('=').filter(|_| begins_word) else {
            rest = &rest[at + name.len()..];
            continue;
        };
        let value = value.trim_start();
        let Some(quoted) = value.strip_prefix('"') else {
            return Some(value.split([' ', ';', '\t', '\n']).next().unwrap_or_default().to_owned());
        };
        let mut text = String::new();
        let mut characters = quoted.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => return Some(text),
                '\\' => text.extend(characters.next()),
                other => text.push(other),
            }
        }
        return None;
    }
}

/// librdkafka's refusal of a setting, without the value where that could be a secret.
fn refused(error: &KafkaError) -> Error {
    let KafkaError::ClientConfig(result, reason, key, _) = error else {
        return Error::config(format!("client settings: {error}"));
    };
    if *result == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        let nearest = KNOWN
            .iter()
            .map(|known| (strsim::jaro_winkler(known, key), known))
            .max_by(|one, other| one.0.total_cmp(&other.0));
        let hint = match nearest {
            Some((likeness, known)) if likeness > 0.85 => format!("; did you mean '{known}'?"),
            _ => String::new(),
        };
        return Error::config(format!("{key}: there is no such client setting{hint}"));
    }
    let secret = ["password", "secret", "key.pem", "passphrase"].iter().any(|word| key.contains(word));
    Error::config(if secret { format!("{key}: is not accepted") } else { format!("{key}: {reason}") })
}

/// Names to suggest for a misspelt one: what people set.
const KNOWN: &[&str] = &[
    "acks",
    "batch.num.messages",
    "batch.size",
    "bootstrap.servers",
    "broker.address.family",
    "buffer.memory",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "delivery.timeout.ms",
    "enable.idempotence",
    "enable.ssl.certificate.verification",
    "fetch.max.bytes",
    "fetch.max.wait.ms",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "group.instance.id",
    "heartbeat.interval.ms",
    "isolation.level",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "max.request.size",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.jaas.config",
    "sasl.mechanism",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.type",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.refresh.interval.ms",
];

#[cfg(test)]
mod tests {
    use ottla_api::ErrorKind;

    use super::*;

    fn config(role: Role, client: &[(&str, &str)], own: &[(&str, &str)]) -> Result<ClientConfig> {
        let client: Properties = client.iter().copied().collect();
        let own: Properties = own.iter().copied().collect();
        Settings::new("localhost:9092", &client).client_config(role, &own)
    }

    fn message(result: Result<ClientConfig>) -> String {
        let error = result.expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    const SCRAM: &str =
        r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="alice" password="a \"b\\;";"#;

    #[test]
    fn top_level_security_reaches_every_client_and_the_nearest_setting_wins() {
        let client = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.jaas.config", SCRAM),
            ("producer.linger.ms", "7"),
            ("producer.acks", "1"),
            ("consumer.fetch.min.bytes", "3"),
            ("request.timeout.ms", "1234"),
            ("group.id", "worker-group"),
            ("offset.storage.topic", "offsets"),
        ];
        let producer = config(Role::Producer, &client, &[("acks", "all"), ("compression.type", "zstd")]).unwrap();
        assert_eq!(producer.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(producer.get("sasl.mechanisms"), Some("SCRAM-SHA-512"));
        assert_eq!(producer.get("sasl.username"), Some("alice"));
        assert_eq!(producer.get("sasl.password"), Some(r#"a "b\;"#));
        assert_eq!(producer.get("linger.ms"), Some("7"));
        assert_eq!(producer.get("acks"), Some("all"));
        assert_eq!(producer.get("compression.codec"), Some("zstd"));
        assert_eq!(producer.get("fetch.min.bytes"), None);
        assert_eq!(producer.get("request.timeout.ms"), None);

        let admin = config(Role::Admin, &client, &[]).unwrap();
        assert_eq!(admin.get("socket.timeout.ms"), Some("1234"));
        assert_eq!(admin.get("sasl.username"), Some("alice"));
        let consumer = config(Role::Consumer, &client, &[("max.partition.fetch.bytes", "5000")]).unwrap();
        assert_eq!(consumer.get("fetch.min.bytes"), Some("3"));
        assert_eq!(consumer.get("fetch.message.max.bytes"), Some("5000"));
        assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn what_only_java_knows_is_left_out() {
        let config = config(
            Role::Consumer,
            &[],
            &[
                ("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer"),
                ("max.poll.records", "10"),
                ("auto.offset.reset", "latest"),
                ("ssl.endpoint.identification.algorithm", ""),
                ("ssl.truststore.location", "/etc/ca.pem"),
                ("ssl.truststore.password", "secret"),
                ("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"),
            ],
        )
        .unwrap();
        assert_eq!(config.get("key.deserializer"), None);
        assert_eq!(config.get("auto.offset.reset"), None);
        assert_eq!(config.get("ssl.endpoint.identification.algorithm"), Some("none"));
        assert_eq!(config.get("ssl.ca.location"), Some("/etc/ca.pem"));
    }

    #[test]
    fn a_misspelt_setting_is_named_with_its_nearest() {
        let text = message(config(Role::Producer, &[], &[("liner.ms", "1")]));
        assert_eq!(text, "liner.ms: there is no such client setting; did you mean 'linger.ms'?");
        let text = message(config(Role::Producer, &[], &[("linger.ms", "soon")]));
        assert!(text.starts_with("linger.ms: "), "{text}");
    }

    #[test]
    fn what_is_not_supported_says_what_to_do_and_shows_no_secret() {
        let iam = "software.amazon.msk.auth.iam.IAMLoginModule required awsRoleArn=\"arn:secret\";";
        let text = message(config(Role::Admin, &[("sasl.mechanism", "AWS_MSK_IAM")], &[]));
        assert!(text.contains("not supported yet") && text.contains("SCRAM-SHA-512"), "{text}");
        let text = message(config(Role::Admin, &[("sasl.jaas.config", iam)], &[]));
        assert!(text.contains("IAMLoginModule") && !text.contains("arn:secret"), "{text}");
        let text = message(config(
            Role::Admin,
            &[("sasl.client.callback.handler.class", "software.amazon.msk.auth.iam.IAMClientCallbackHandler")],
            &[],
        ));
        assert!(text.contains("not supported yet"), "{text}");
        let text = message(config(Role::Admin, &[("ssl.truststore.location", "/etc/trust.jks")], &[]));
        assert!(text.contains("PEM"), "{text}");
        let text = message(config(Role::Consumer, &[], &[("group.protocol", "consumer")]));
        assert!(text.contains("classic"), "{text}");
        let text = message(config(Role::Consumer, &[], &[("partition.assignment.strategy", "range")]));
        assert!(text.contains("cooperative-sticky"), "{text}");
    }

    #[test]
    fn a_jaas_line_may_be_written_in_several_ways() {
        let parse = |line: &str| jaas_credentials(line).unwrap();
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let expected = ("bob".to_owned(), "pass word".to_owned());
        assert_eq!(parse(&format!("{module} required username=\"bob\" password=\"pass word\";")), expected);
        assert_eq!(parse(&format!("{module} required\n  password = \"pass word\"\n  username = \"bob\" ;")), expected);
        assert_eq!(parse(&format!("{module} required username=bob password=pw;")), ("bob".into(), "pw".into()));
        assert!(jaas_credentials(&format!("{module} required username=\"bob\";")).is_err());
    }
}
