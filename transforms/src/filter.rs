//! Drops every record it is given; a predicate says which those are, or a condition which may stay.
//!
//! This is Kafka Connect's `Filter`. With `condition`, an expression in CEL, it keeps the records for which that is true; what an
//! expression may name, `map` tells.
//!
//! ```toml
//! type = "filter"
//! ```
//!
//! ```json
//! {"ind":1}
//! ```
//!
//! becomes
//!
//! ```text
//! dropped
//! ```
//!
//! ```toml
//! type = "filter"
//! condition = 'value.age >= 18'
//! ```
//!
//! ```json
//! {"ind":1,"age":17}
//! ```
//!
//! becomes
//!
//! ```text
//! dropped
//! ```

use ottla_api::prelude::*;

use crate::expression::Expression;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "filter",
        aliases: &["org.apache.kafka.connect.transforms.Filter"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("filter.rs"),
        definition: &FilterConfig::definition,
        constructor: Constructor::Transformation(&|properties| {
            Ok(Box::new(Filter { condition: FilterConfig::from_properties(properties)?.condition }))
        }),
    }
}

#[derive(Debug, Config)]
struct FilterConfig {
    /// Which records stay. Unset, none does that comes here.
    #[config(name = "condition")]
    condition: Option<Expression>,
}

struct Filter {
    condition: Option<Expression>,
}

impl Transformation for Filter {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        match &self.condition {
            Some(condition) if condition.test(&mut record)? => Ok(Some(record)),
            _ => Ok(None),
        }
    }
}
