//! The HTTP gateway: Kafka REST Proxy and Kinesis paths as a listener of the worker.
