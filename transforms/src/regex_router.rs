//! Renames topics by a regular expression.
//!
//! This is Kafka Connect's `RegexRouter`.
//!
//! ```toml
//! type = "regex-router"
//! regex = '([0-9a-f]{12})\.(.*)'
//! replacement = "$2"
//! ```
//!
//! ```json record
//! {"topic":"0a4e65e909bd.pin","value":{"ind":1}}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"topic":"pin","value":{"ind":1}}
//! ```
//!
//! The regular expression, in Java's syntax, must match the whole name; names that it doesn't match stay. `$1` and `${name}` in
//! the replacement stand for groups, `\$` for the sign.

use std::sync::Arc;

use ottla_api::prelude::*;

use crate::java_replacement::{JavaRegex, Replacement};
use crate::text_list::config_error;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "regex-router",
        aliases: &["org.apache.kafka.connect.transforms.RegexRouter"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("regex_router.rs"),
        definition: &RegexRouterConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            let config = RegexRouterConfig::from_properties(properties)?;
            let replacement = Replacement::parse(&config.replacement, &config.regex)
                .map_err(|message| config_error("replacement", message))?;
            Ok(Box::new(RegexRouter { regex: config.regex, replacement, last: None }))
        }),
    }
}

#[derive(Debug, Config)]
struct RegexRouterConfig {
    /// Regular expression for the whole name.
    #[config(name = "regex")]
    regex: JavaRegex,
    /// The new name.
    #[config(name = "replacement")]
    replacement: String,
}

struct RegexRouter {
    regex: JavaRegex,
    replacement: Replacement,
    /// The last topic and what became of it: records come in runs of one topic.
    last: Option<(Arc<str>, Arc<str>)>,
}

impl Transformation for RegexRouter {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        record.topic = match &self.last {
            Some((from, to)) if Arc::ptr_eq(from, &record.topic) || *from == record.topic => Arc::clone(to),
            _ => {
                let to = match self.regex.replace_whole(&record.topic, &self.replacement) {
                    Some(topic) => topic.into(),
                    None => Arc::clone(&record.topic),
                };
                self.last = Some((record.topic, Arc::clone(&to)));
                to
            }
        };
        Ok(Some(record))
    }
}
