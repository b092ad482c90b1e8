//! A library that must be refused: a panic in it would end its worker.
//!
//!     cargo rustc --example aborts -- -C panic=abort

use ottla_api::prelude::*;

struct Aborts;

impl SinkConnector for Aborts {
    fn task(&self, _properties: &Properties) -> Result<Box<dyn SinkTask>> {
        panic!("the worker should not live to see this");
    }
}

const PLUGINS: &[Plugin] = &[Plugin {
    name: "aborts-sink",
    aliases: &[],
    version: "1",
    doc: "Ends its process.",
    definition: &ConfigDef::new,
    constructor: Constructor::Sink(&|| Box::new(Aborts)),
}];

ottla_api::export_plugins!(PLUGINS);
