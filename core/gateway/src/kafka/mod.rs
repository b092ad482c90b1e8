//! Kafka's REST Proxy, version 2 of its interface, over the worker's broker.

mod consumers;
mod formats;
mod instance;
mod lanes;
mod produce;
mod topics;

use std::sync::Arc;

use ottla_runtime::broker::Broker;
use ottla_runtime::config::GatewayConfig;
use tokio_util::sync::CancellationToken;

use crate::Surroundings;
use crate::guard::Guards;
use consumers::Consumers;
use lanes::Lanes;

/// What serves `/topics` and `/consumers`.
#[derive(Debug)]
pub(crate) struct Kafka {
    broker: Arc<dyn Broker>,
    guards: Arc<Guards>,
    lanes: Lanes,
    pub(crate) consumers: Consumers,
}

impl Kafka {
    pub(crate) fn new(
        config: &GatewayConfig,
        around: &Surroundings,
        guards: Arc<Guards>,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            broker: Arc::clone(&around.broker),
            guards,
            lanes: Lanes::start(&around.broker),
            consumers: Consumers::new(config, around, stop),
        }
    }

    /// Ends what runs beside requests: consumers leave their groups.
    pub(crate) async fn close(&self) {
        self.consumers.close().await;
        self.lanes.close().await;
    }
}
