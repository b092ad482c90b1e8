//! Sends a record to the topic that an expression in CEL names.
//!
//! ```toml
//! type = "route"
//! topic = '"posts." + value.category.lowerAscii()'
//! ```
//!
//! ```json record
//! {"topic":"posts","value":{"ind":1,"category":"Art"}}
//! ```
//!
//! becomes
//!
//! ```json record
//! {"topic":"posts.art","value":{"ind":1,"category":"Art"}}
//! ```
//!
//! What an expression may name, `map` tells. A result that is no text, or empty, fails the record. A
//! sink keeps its place by the topic that the record came from, whatever this one is.

use std::sync::Arc;

use ottla_api::prelude::*;

use crate::expression::Expression;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "route",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("route.rs"),
        definition: &RouteConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            Ok(Box::new(Route { topic: RouteConfig::from_properties(properties)?.topic, last: None }))
        }),
    }
}

#[derive(Debug, Config)]
struct RouteConfig {
    /// The topic's name.
    #[config(name = "topic")]
    topic: Expression,
}

struct Route {
    topic: Expression,
    /// The last name: records come in runs of one.
    last: Option<Arc<str>>,
}

impl Transformation for Route {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        let name = match self.topic.value(&mut record)? {
            Value::String(name) if !name.is_empty() => name,
            other => {
                let found = if matches!(other, Value::String(_)) { "empty text" } else { other.type_name() };
                return Err(Error::data(format!("the expression of route names no topic, found {found}")));
            }
        };
        record.topic = match &self.last {
            Some(last) if **last == *name => Arc::clone(last),
            _ => Arc::clone(self.last.insert(name.into())),
        };
        Ok(Some(record))
    }
}
