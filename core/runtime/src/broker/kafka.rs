//! Topics in a Kafka cluster, through librdkafka.
