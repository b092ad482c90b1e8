//! As it should be.

use ottla_api::prelude::*;

struct Upper;

impl Transformation for Upper {
    fn apply(&mut self, record: Record) -> Result<Option<Record>> {
        Ok(Some(record))
    }
}

const PLUGINS: &[Plugin] = &[Plugin {
    name: "upper",
    aliases: &[],
    version: "1",
    doc: "Does nothing.",
    definition: &ConfigDef::new,
    constructor: Constructor::Transformation(&|_| Ok(Box::new(Upper))),
}];

ottla_api::export_plugins!(PLUGINS);

fn main() {}
