//! One record meets one failure: report it, then skip it or fail the task, as configured (G5).

pub mod dead_letter_queue;
pub mod retry;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ottla_api::offset::TopicPartition;
use ottla_api::record::RawRecord;
use ottla_api::{Error, ErrorKind, Result};
use tracing::error;

use crate::config::{ErrorsConfig, Tolerance};
use crate::status::ConnectorStatus;
use dead_letter_queue::DeadLetterQueue;

/// The step of a record's path where it failed (Kafka Connect: `Stage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Kafka Connect's words.
pub enum Stage {
    TaskPut,
    Transformation,
    KeyConverter,
    ValueConverter,
    HeaderConverter,
    KafkaProduce,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TaskPut => "TASK_PUT",
            Self::Transformation => "TRANSFORMATION",
            Self::KeyConverter => "KEY_CONVERTER",
            Self::ValueConverter => "VALUE_CONVERTER",
            Self::HeaderConverter => "HEADER_CONVERTER",
            Self::KafkaProduce => "KAFKA_PRODUCE",
        })
    }
}

/// What failed, where.
#[derive(Debug)]
pub struct Failure {
    /// The step.
    pub stage: Stage,
    /// Native name of the plugin that failed, with the stage's own name for a transformation.
    pub class: String,
    /// Why.
    pub error: Error,
}

impl Failure {
    /// A failure of `class` at `stage`.
    pub fn new(stage: Stage, class: impl Into<String>, error: Error) -> Self {
        Self { stage, class: class.into(), error }
    }

    /// True where the task fails in any case, whatever `errors.tolerance` says: it is not the record's fault.
    pub fn fails_the_task(&self) -> bool {
        self.error.is_retriable() || self.error.kind() == ErrorKind::Fatal
    }
}

/// Decides what follows from a record's failure, for one task.
#[derive(Debug)]
pub struct ErrorHandler {
    task_id: String,
    config: ErrorsConfig,
    status: Arc<ConnectorStatus>,
    dead_letters: Option<DeadLetterQueue>,
}

impl ErrorHandler {
    /// A handler for one task, with its dead letter queue if it has one.
    pub fn new(
        task_id: String,
        config: ErrorsConfig,
        status: Arc<ConnectorStatus>,
        dead_letters: Option<DeadLetterQueue>,
    ) -> Self {
        Self { task_id, config, status, dead_letters }
    }

    /// A sink's record failed. It is reported in any case; an error returned fails the task.
    pub fn sink_record(&self, origin: &TopicPartition, raw: &RawRecord, failure: Failure) -> Result<()> {
        if failure.fails_the_task() {
            return Err(failure.error);
        }
        self.log(&failure, Some((origin, raw.offset)));
        if let Some(queue) = &self.dead_letters {
            queue.add(&self.task_id, origin, raw, &failure);
        }
        self.decide(failure, &format!("{origin} offset {}", raw.offset))
    }

    /// A source's record failed on its way into its topic.
    pub fn source_record(&self, place: &str, failure: Failure) -> Result<()> {
        if failure.error.kind() == ErrorKind::Fatal {
            return Err(failure.error);
        }
        self.log(&failure, None);
        self.decide(failure, place)
    }

    fn decide(&self, failure: Failure, place: &str) -> Result<()> {
        if self.config.tolerance == Tolerance::All {
            self.status.counters.failed.fetch_add(1, Relaxed);
            return Ok(());
        }
        let way_out = if self.dead_letters.is_some() {
            "the record is in the dead letter queue too; set errors.tolerance=all to go on past such records"
        } else {
            "repair or skip the record, or set errors.tolerance=all, best with errors.deadletterqueue.topic.name"
        };
        Err(Error::data(format!(
            "{} failed at {} ({}): {}; {way_out}",
            failure.class, place, failure.stage, failure.error
        )))
    }

    fn log(&self, failure: &Failure, consumed: Option<(&TopicPartition, i64)>) {
        if !self.config.log_enable {
            return;
        }
        match consumed.filter(|_| self.config.log_include_messages) {
            Some((origin, offset)) => error!(
                task = %self.task_id, stage = %failure.stage, class = %failure.class, error = %failure.error,
                topic = %origin.topic, partition = origin.partition, offset, "record failed"
            ),
            None => error!(
                task = %self.task_id, stage = %failure.stage, class = %failure.class, error = %failure.error,
                "record failed"
            ),
        }
    }

    /// Makes what was added to the dead letter queue durable. No offset may be committed before (reliability rule: the queue
    /// has the record, then its offset moves on).
    pub async fn flush(&self) -> Result<()> {
        if let Some(queue) = &self.dead_letters {
            let sent = queue.flush().await?;
            self.status.counters.dead_letters.fetch_add(sent, Relaxed);
        }
        Ok(())
    }
}
