//! A library of plugins as a stranger's would be: built by itself, with other versions of what the worker is built with, and
//! by another compiler where there is one. The tame ones do what they should; the others fail in whatever method they are told to.
//!
//! | File | Holds |
//! |---|---|
//! | `sink.rs` | `zoo-sink`: JSON lines, each record once |
//! | `source.rs` | `zoo-source`: the lines of a file, each once |
//! | `per_record.rs` | `zoo-shout`, `zoo-has`, `zoo-reversed`, `zoo-words` |
//! | `trouble.rs` | how something panics, blocks its thread, or never ends |
//! | `wild.rs` | `panics-*`, `blocks-*`, `pends-*`: those that do it |

mod per_record;
mod sink;
mod source;
mod trouble;
mod wild;

use ottla_api::prelude::*;

use crate::trouble::Trouble;

/// A plugin of the zoo.
const fn plugin(name: &'static str, doc: &'static str, definition: Definition, constructor: Constructor) -> Plugin {
    Plugin { name, aliases: &[], version: env!("CARGO_PKG_VERSION"), doc, definition, constructor }
}

type Definition = &'static (dyn Fn() -> ConfigDef + Send + Sync);

/// The six kinds of plugin that get into the same trouble.
macro_rules! wild {
    ($trouble:expr, $source:literal, $sink:literal, $transform:literal, $predicate:literal, $converter:literal, $provider:literal) => {
        [
            plugin(
                $source,
                "Gets into trouble in the method `at`.",
                &|| wild::definition($trouble),
                Constructor::Source(&|| Box::new(wild::WildConnector::new($trouble))),
            ),
            plugin(
                $sink,
                "Gets into trouble in the method `at`.",
                &|| wild::definition($trouble),
                Constructor::Sink(&|| Box::new(wild::WildConnector::new($trouble))),
            ),
            plugin(
                $transform,
                "Gets into trouble in the method `at`.",
                &wild::WildConfig::definition,
                Constructor::Transformation(&|properties| {
                    Ok(Box::new(wild::WildPerRecord::new($trouble, properties)?))
                }),
            ),
            plugin(
                $predicate,
                "Gets into trouble in the method `at`.",
                &wild::WildConfig::definition,
                Constructor::Predicate(&|properties| Ok(Box::new(wild::WildPerRecord::new($trouble, properties)?))),
            ),
            plugin(
                $converter,
                "Gets into trouble in the method `at`.",
                &wild::WildConfig::definition,
                Constructor::Converter(&|properties, _| Ok(Box::new(wild::WildPerRecord::new($trouble, properties)?))),
            ),
            plugin(
                $provider,
                "Gets into trouble in the method `at`.",
                &wild::WildConfig::definition,
                Constructor::ConfigProvider(&|properties| {
                    Ok(Box::new(wild::WildPerRecord::new($trouble, properties)?))
                }),
            ),
        ]
    };
}

const TAME: [Plugin; 6] = [
    plugin("zoo-sink", sink::DOC, &sink::ZooSinkConfig::definition, Constructor::Sink(&|| Box::new(sink::ZooSink))),
    plugin(
        "zoo-source",
        source::DOC,
        &source::ZooSourceConfig::definition,
        Constructor::Source(&|| Box::new(source::ZooSource)),
    ),
    plugin(
        "zoo-shout",
        "Makes the text of a field upper case.",
        &per_record::FieldConfig::definition,
        Constructor::Transformation(&|properties| Ok(Box::new(per_record::Shout::new(properties)?))),
    ),
    plugin(
        "zoo-has",
        "True where the value has the field.",
        &per_record::FieldConfig::definition,
        Constructor::Predicate(&|properties| Ok(Box::new(per_record::Has::new(properties)?))),
    ),
    plugin(
        "zoo-reversed",
        "Texts that lie in the topic from back to front.",
        &ConfigDef::new,
        Constructor::Converter(&|_, _| Ok(Box::new(per_record::Reversed))),
    ),
    plugin(
        "zoo-words",
        "`${zoo:a:lion}` stands for `a-lion`, and `zebra` likewise.",
        &ConfigDef::new,
        Constructor::ConfigProvider(&|_| Ok(Box::new(per_record::Words))),
    ),
];

const PANICS: [Plugin; 6] = wild!(
    Trouble::Panics,
    "panics-source",
    "panics-sink",
    "panics-transform",
    "panics-predicate",
    "panics-converter",
    "panics-provider"
);

const BLOCKS: [Plugin; 6] = wild!(
    Trouble::Blocks,
    "blocks-source",
    "blocks-sink",
    "blocks-transform",
    "blocks-predicate",
    "blocks-converter",
    "blocks-provider"
);

const PENDS: [Plugin; 6] = wild!(
    Trouble::Pends,
    "pends-source",
    "pends-sink",
    "pends-transform",
    "pends-predicate",
    "pends-converter",
    "pends-provider"
);

/// All of them, in one list as the macro wants it.
const ALL: [Plugin; 24] = {
    let mut all = [TAME[0]; 24];
    let mut at = 0;
    while at < 6 {
        (all[at], all[6 + at], all[12 + at], all[18 + at]) = (TAME[at], PANICS[at], BLOCKS[at], PENDS[at]);
        at += 1;
    }
    all
};

/// The plugins of this library.
pub const PLUGINS: &[Plugin] = &ALL;

ottla_api::export_plugins!(PLUGINS);
