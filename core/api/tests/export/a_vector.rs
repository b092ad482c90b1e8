//! A list that only exists at run time.

use ottla_api::prelude::*;

struct Upper;

impl Transformation for Upper {
    fn apply(&mut self, record: Record) -> Result<Option<Record>> {
        Ok(Some(record))
    }
}

ottla_api::export_plugins!(&vec![Plugin {
    name: "upper",
    aliases: &[],
    version: "1",
    doc: "Does nothing.",
    definition: &ConfigDef::new,
    constructor: Constructor::Transformation(&|_| Ok(Box::new(Upper))),
}]);

fn main() {}
