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

struct ChainStage {
    name: String,
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

    /// Sends a record through. Nothing comes out where a stage drops it.
    pub fn apply(&mut self, mut record: Record) -> Result<Option<Record>, Failure> {
        for stage in &mut self.stages {
            let applied = stage
                .applies_to(&mut record)
                .and_then(|applies| if applies { stage.transformation.apply(record) } else { Ok(Some(record)) });
            record = match applied {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(None),
                Err(error) => {
                    return Err(Failure::new(Stage::Transformation, format!("transformation '{}'", stage.name), error));
                }
            };
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
        let guards = stage.guards.iter().map(|guard| {
            let plugin = &guard.predicate.plugin;
            let Constructor::Predicate(make) = plugin.constructor else { return Err(wrong(plugin.name)) };
            Ok((make(&providers.resolve(&guard.predicate.properties)?)?, guard.negate))
        });
        Ok(Self { name: stage.name.clone(), transformation, guards: guards.collect::<Result<_>>()? })
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
