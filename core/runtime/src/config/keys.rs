//! Keys that other programs define: Kafka's clients and Kafka Connect's workers. A known key passes; a misspelt one is found.

/// True where a Kafka client (Java's, or librdkafka) knows the key.
pub(crate) fn is_client_key(key: &str) -> bool {
    CLIENT_KEYS.binary_search(&key).is_ok()
}

/// True where a Kafka Connect worker knows the key, but a worker that runs alone has no use for it.
pub(crate) fn is_unused_worker_key(key: &str) -> bool {
    UNUSED_WORKER_KEYS.binary_search(&key).is_ok()
        || UNUSED_WORKER_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Settings of Kafka clients, sorted.
#[rustfmt::skip]
pub(crate) const CLIENT_KEYS: &[&str] = &[
    "acks", "allow.auto.create.topics", "api.version.fallback.ms", "api.version.request",
    "api.version.request.timeout.ms", "auto.commit.enable", "auto.commit.interval.ms",
    "auto.include.jmx.reporter", "auto.offset.reset", "batch.num.messages", "batch.size", "bootstrap.servers",
    "broker.address.family", "broker.address.ttl", "broker.version.fallback", "buffer.memory", "check.crcs",
    "client.dns.lookup", "client.id", "client.rack", "compression.codec", "compression.gzip.level",
    "compression.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
    "connections.max.idle.ms", "consume.callback.max.messages", "coordinator.query.interval.ms", "debug",
    "default.api.timeout.ms", "delivery.report.only.error", "delivery.timeout.ms", "enable.auto.commit",
    "enable.auto.offset.store", "enable.gapless.guarantee", "enable.idempotence", "enable.metrics.push",
    "enable.partition.eof", "enable.random.seed", "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification", "exclude.internal.topics", "fetch.error.backoff.ms", "fetch.max.bytes",
    "fetch.max.wait.ms", "fetch.message.max.bytes", "fetch.min.bytes", "fetch.queue.backoff.ms",
    "fetch.wait.max.ms", "group.id", "group.instance.id", "group.protocol", "group.protocol.type",
    "group.remote.assignor", "heartbeat.interval.ms", "https.ca.location", "https.ca.pem", "interceptor.classes",
    "internal.termination.signal", "isolation.level", "key.deserializer", "key.serializer", "linger.ms",
    "log.connection.close", "log.queue", "log.thread.name", "log_level", "max.block.ms", "max.in.flight",
    "max.in.flight.requests.per.connection", "max.partition.fetch.bytes", "max.poll.interval.ms",
    "max.poll.records", "max.request.size", "message.copy.max.bytes", "message.max.bytes",
    "message.send.max.retries", "message.timeout.ms", "metadata.broker.list", "metadata.max.age.ms",
    "metadata.max.idle.ms", "metadata.recovery.rebootstrap.trigger.ms", "metadata.recovery.strategy",
    "metric.reporters", "metrics.num.samples", "metrics.recording.level", "metrics.sample.window.ms",
    "offset.store.method", "offset.store.path", "offset.store.sync.interval.ms", "partition.assignment.strategy",
    "partitioner", "partitioner.adaptive.partitioning.enable", "partitioner.availability.timeout.ms",
    "partitioner.class", "partitioner.ignore.keys", "plugin.library.paths", "produce.offset.report",
    "queue.buffering.backpressure.threshold", "queue.buffering.max.kbytes", "queue.buffering.max.messages",
    "queue.buffering.max.ms", "queued.max.messages.kbytes", "queued.min.messages", "queuing.strategy",
    "receive.buffer.bytes", "receive.message.max.bytes", "reconnect.backoff.jitter.ms",
    "reconnect.backoff.max.ms", "reconnect.backoff.ms", "request.required.acks", "request.timeout.ms", "retries",
    "retry.backoff.max.ms", "retry.backoff.ms", "sasl.client.callback.handler.class", "sasl.jaas.config",
    "sasl.kerberos.keytab", "sasl.kerberos.kinit.cmd", "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal", "sasl.kerberos.service.name", "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor", "sasl.login.callback.handler.class", "sasl.login.class",
    "sasl.login.connect.timeout.ms", "sasl.login.read.timeout.ms", "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds", "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter", "sasl.login.retry.backoff.max.ms", "sasl.login.retry.backoff.ms",
    "sasl.mechanism", "sasl.mechanisms", "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.claim.aud", "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss", "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds", "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.file", "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem", "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret", "sasl.oauthbearer.clock.skew.seconds", "sasl.oauthbearer.config",
    "sasl.oauthbearer.expected.audience", "sasl.oauthbearer.expected.issuer", "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.grant.type", "sasl.oauthbearer.header.urlencode",
    "sasl.oauthbearer.jwks.endpoint.refresh.ms", "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "sasl.oauthbearer.jwks.endpoint.url",
    "sasl.oauthbearer.metadata.authentication.type", "sasl.oauthbearer.method", "sasl.oauthbearer.scope",
    "sasl.oauthbearer.scope.claim.name", "sasl.oauthbearer.sub.claim.name", "sasl.oauthbearer.token.endpoint.url",
    "sasl.password", "sasl.username", "security.protocol", "security.providers", "send.buffer.bytes",
    "session.timeout.ms", "socket.blocking.max.ms", "socket.connection.setup.timeout.max.ms",
    "socket.connection.setup.timeout.ms", "socket.keepalive.enable", "socket.max.fails", "socket.nagle.disable",
    "socket.receive.buffer.bytes", "socket.send.buffer.bytes", "socket.timeout.ms", "ssl.ca.certificate.stores",
    "ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.certificate.pem", "ssl.cipher.suites",
    "ssl.crl.location", "ssl.curves.list", "ssl.enabled.protocols", "ssl.endpoint.identification.algorithm",
    "ssl.engine.factory.class", "ssl.engine.id", "ssl.engine.location", "ssl.key.location", "ssl.key.password",
    "ssl.key.pem", "ssl.keymanager.algorithm", "ssl.keystore.certificate.chain", "ssl.keystore.key",
    "ssl.keystore.location", "ssl.keystore.password", "ssl.keystore.type", "ssl.protocol", "ssl.provider",
    "ssl.providers", "ssl.secure.random.implementation", "ssl.sigalgs.list", "ssl.trustmanager.algorithm",
    "ssl.truststore.certificates", "ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.type",
    "statistics.interval.ms", "sticky.partitioning.linger.ms", "topic.blacklist",
    "topic.metadata.propagation.max.ms", "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.fast.interval.ms", "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse", "transaction.timeout.ms", "transactional.id", "value.deserializer",
    "value.serializer",
];

/// Options of Kafka Connect's workers that concern its REST interface, its groups of workers and its Java plugins, sorted.
#[rustfmt::skip]
pub(crate) const UNUSED_WORKER_KEYS: &[&str] = &[
    "access.control.allow.methods", "access.control.allow.origin", "admin.listeners",
    "config.storage.replication.factor", "config.storage.topic", "connect.protocol",
    "heartbeat.interval.ms", "inter.worker.key.generation.algorithm",
    "inter.worker.key.size", "inter.worker.key.ttl.ms", "inter.worker.signature.algorithm",
    "inter.worker.verification.algorithms", "internal.key.converter", "internal.topics.automatic.creation.enable",
    "internal.value.converter", "key.converter.plugin.version", "listeners", "metric.reporters",
    "metrics.num.samples", "metrics.recording.level", "metrics.sample.window.ms", "offset.storage.file.filename",
    "plugin.discovery", "plugin.version.mode", "rebalance.timeout.ms", "response.http.headers.config",
    "rest.advertised.host.name", "rest.advertised.listener", "rest.advertised.port", "rest.extension.classes",
    "rest.host.name", "rest.port", "scheduled.rebalance.max.delay.ms", "session.timeout.ms", "ssl.client.auth",
    "status.storage.partitions", "status.storage.replication.factor", "status.storage.topic",
    "topic.creation.enable", "topic.tracking.allow.reset", "topic.tracking.enable",
    "value.converter.plugin.version", "worker.sync.timeout.ms", "worker.unsync.backoff.ms",
];

const UNUSED_WORKER_PREFIXES: &[&str] = &[
    "config.storage.",
    "confluent.",
    "header.converter",
    "internal.key.converter.",
    "internal.value.converter.",
    "listeners.https.",
    "metrics.context.",
    "offset.storage.",
    "status.storage.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted() {
        assert!(CLIENT_KEYS.is_sorted() && UNUSED_WORKER_KEYS.is_sorted());
    }
}
