//! Stages in order, each guarded by its predicates.

use std::fmt;

use ottla_api::plugin::Constructor;
use ottla_api::predicate::Predicate;
use ottla_api::record::Record;
use ottla_api::transformation::Transformation;
use ottla_api::{Error, Result};

use crate::config::StageConfig;
use crate::errors::{Failure, Stage};
use crate::plugins::config_providers::Providers;

/// The transformations of one connector, for one stream of records.
///
/// A sink makes one per partition and assignment: a transformation that remembers (deduplication) must forget when records
/// are delivered again, or it would take a redelivery for a duplicate and lose it.
pub struct TransformationChain {
    stages: Vec<ChainStage>,
}

/// What a stage did to a record.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Nothing: its guards say that it is not for this record.
    Guarded,
    /// It has made this of it.
    Applied(&'a Record),
    /// It has dropped it.
    Dropped,
}

struct ChainStage {
    name: String,
    /// What of it may hang, with the names of the plugins.
    blocking: Option<String>,
    transformation: Box<dyn Transformation>,
    guards: Vec<(Box<dyn Predicate>, bool)>,
}

impl TransformationChain {
    /// Makes every transformation and predicate afresh.
    pub fn build(stages: &[StageConfig], providers: &Providers) -> Result<Self> {
        let stages = stages.iter().map(|stage| ChainStage::build(stage, providers)).collect::<Result<_>>()?;
        Ok(Self { stages })
    }

    /// Names of the stages whose outcome depends on more than the record.
    pub fn nondeterministic(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().filter(|stage| !stage.transformation.is_deterministic()).map(|stage| stage.name.as_str())
    }

    /// What may hang, in a few words; nothing where nothing may.
    pub fn blocking(&self) -> Option<String> {
        let names: Vec<&str> = self.stages.iter().filter_map(|stage| stage.blocking.as_deref()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Names of the stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|stage| stage.name.as_str())
    }

    /// Sends a record through. Nothing comes out where a stage drops it. A stage whose guards say no does not touch it: what
    /// is text stays text.
    pub fn apply(&mut self, record: Record) -> Result<Option<Record>, Failure> {
        self.apply_watched(record, |_, _| ())
    }

    /// The same, and `watch` is told by number what each stage did, up to the one that drops the record or fails.
    pub fn apply_watched(
        &mut self,
        mut record: Record,
        mut watch: impl FnMut(usize, Step<'_>),
    ) -> Result<Option<Record>, Failure> {
        for (number, stage) in self.stages.iter_mut().enumerate() {
            match stage.applies_to(&mut record) {
                Ok(true) => (),
                Ok(false) => {
                    watch(number, Step::Guarded);
                    continue;
                }
                Err(error) => return Err(stage.failure(error)),
            }
            match stage.transformation.apply(record) {
                Ok(Some(changed)) => record = changed,
                Ok(None) => {
                    watch(number, Step::Dropped);
                    return Ok(None);
                }
                Err(error) => return Err(stage.failure(error)),
            }
            watch(number, Step::Applied(&record));
        }
        Ok(Some(record))
    }
}

impl ChainStage {
    fn build(stage: &StageConfig, providers: &Providers) -> Result<Self> {
        let wrong = |name: &str| Error::config(format!("'{name}' in the chain is not of the expected kind"));
        let plugin = &stage.transformation.plugin;
        let Constructor::Transformation(make) = plugin.constructor else { return Err(wrong(plugin.name)) };
        let transformation = make(&providers.resolve(&stage.transformation.properties)?)?;
        let mut blocking: Vec<&str> = transformation.is_blocking().then_some(plugin.name).into_iter().collect();
        let mut guards = Vec::with_capacity(stage.guards.len());
        for guard in &stage.guards {
            let plugin = &guard.predicate.plugin;
            let Constructor::Predicate(make) = plugin.constructor else { return Err(wrong(plugin.name)) };
            let predicate = make(&providers.resolve(&guard.predicate.properties)?)?;
            blocking.extend(predicate.is_blocking().then_some(plugin.name));
            guards.push((predicate, guard.negate));
        }
        let blocking =
            (!blocking.is_empty()).then(|| format!("transformation '{}' ({})", stage.name, blocking.join(", ")));
        Ok(Self { name: stage.name.clone(), blocking, transformation, guards })
    }

    #[cold]
    fn failure(&self, error: Error) -> Failure {
        Failure::new(Stage::Transformation, format!("transformation '{}'", self.name), error)
    }

    fn applies_to(&mut self, record: &mut Record) -> Result<bool> {
        for (predicate, negate) in &mut self.guards {
            if predicate.test(record)? == *negate {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for TransformationChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stages.iter().map(|stage| &stage.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_api::record::Payload;

    /// Says always the same, or that it can't say.
    struct Says(Option<bool>);

    impl Predicate for Says {
        fn test(&mut self, _: &mut Record) -> Result<bool> {
            self.0.ok_or_else(|| Error::data("no answer"))
        }
    }

    /// Decodes, and refuses what is no map.
    struct Decode;

    impl Transformation for Decode {
        fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
            match record.value.value()?.as_map() {
                Some(map) if map.is_empty() => Ok(None),
                Some(_) => Ok(Some(record)),
                None => Err(Error::data("no map")),
            }
        }
    }

    fn chain(guards: &[(Option<bool>, bool)]) -> TransformationChain {
        let guard = |(answer, negate): &(Option<bool>, bool)| {
            let predicate: Box<dyn Predicate> = Box::new(Says(*answer));
            (predicate, *negate)
        };
        let guards = guards.iter().map(guard).collect();
        TransformationChain {
            stages: vec![ChainStage {
                name: "decode".to_owned(),
                blocking: None,
                transformation: Box::new(Decode),
                guards,
            }],
        }
    }

    fn record(text: &'static str) -> Record {
        let mut record = Record::new("t", 0i64);
        record.value = Payload::json(text.into());
        record
    }

    #[test]
    fn a_stage_works_where_all_its_guards_agree() {
        for (guards, works) in [
            (&[][..], true),
            (&[(Some(true), false)], true),
            (&[(Some(false), false)], false),
            (&[(Some(true), true)], false),
            (&[(Some(false), true), (Some(true), false)], true),
            (&[(Some(true), false), (Some(false), false)], false),
        ] {
            let after = chain(guards).apply(record("{\"a\":1}")).unwrap().unwrap();
            assert_eq!(matches!(after.value, Payload::Data { .. }), works, "{guards:?}");
            if !works {
                assert_eq!(after, record("{\"a\":1}"), "what no stage works on stays the text it is");
            }
        }
    }

    #[test]
    fn a_record_is_dropped_or_fails_with_the_name_of_the_stage() {
        assert!(chain(&[]).apply(record("{}")).unwrap().is_none());
        for (guards, text, error) in [(&[][..], "1", "no map"), (&[(None, false)], "{}", "no answer")] {
            let failure = chain(guards).apply(record(text)).unwrap_err();
            assert_eq!(failure.stage, Stage::Transformation);
            assert_eq!((&*failure.class, failure.error.to_string()), ("transformation 'decode'", error.to_owned()));
        }
    }
}
