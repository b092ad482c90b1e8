//! Checks the gateway's section.

use ottla_api::config::{Config as _, Properties};

use super::super::GatewayConfig;
use super::super::nearest::nearest;
use super::super::section::Section;
use super::{Checker, names};

impl Checker<'_> {
    /// The gateway's options, placeholders replaced: they are needed as soon as the worker runs.
    pub(super) fn gateway(&mut self, section: &Section) -> Option<GatewayConfig> {
        let definition = GatewayConfig::definition();
        let before = self.diagnostics.errors.len();
        let mut properties = Properties::new();
        for entry in &section.entries {
            if definition.find(&entry.key).is_none() {
                let hint = match nearest(&entry.key, names(&definition)) {
                    Some(meant) => format!("; did you mean '{meant}'?"),
                    None => format!("; the gateway knows {}", names(&definition).collect::<Vec<_>>().join(", ")),
                };
                self.diagnostics.error(&entry.place, entry.written.clone(), format!("unknown key{hint}"));
                continue;
            }
            self.placeholder_of_nobody(entry);
            if let Some(text) = self.resolved(entry) {
                properties.set(entry.key.as_str(), text);
            }
        }
        let config = self.read::<GatewayConfig>(section, &properties)?;
        for (key, message) in config.mistakes() {
            self.error(section, &key, message);
        }
        if !config.listener.ip().is_loopback() && config.asks_who_calls() {
            let message = "is reached without TLS: keys and passwords travel readable to whoever listens on the way; put a \
                           proxy with TLS in front of it";
            self.warning(section, "listener", message);
        }
        (before == self.diagnostics.errors.len()).then_some(config)
    }
}
