//! True where an expression in CEL says so.
//!
//! ```toml
//! type = "expression"
//! condition = 'has(value.age) && value.age < 18'
//! ```
//!
//! A chain or a transformation asks in place: `when = { expression = "value.age < 18" }`. What an expression may name, `map`
//! tells. One that can't be worked out for a record, for want of a field, fails that record.

use ottla_api::prelude::*;

use crate::expression::Expression;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "expression",
        aliases: &[],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("expression.rs"),
        definition: &ExpressionConfig::definition,
        constructor: Constructor::Predicate(&|properties| {
            Ok(Box::new(Condition(ExpressionConfig::from_properties(properties)?.condition)))
        }),
    }
}

#[derive(Debug, Config)]
struct ExpressionConfig {
    /// The question, whose answer is true or false.
    #[config(name = "condition")]
    condition: Expression,
}

struct Condition(Expression);

impl Predicate for Condition {
    fn test(&mut self, record: &mut Record) -> Result<bool> {
        self.0.test(record)
    }
}
