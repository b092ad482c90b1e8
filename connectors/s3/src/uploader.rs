//! One partition's uploads, strictly one after the other, beside consumption.
//!
//! The order is what makes delivery exactly once. If object `n` turns out to belong to another attempt and to end earlier
//! than ours would have, the next name is the one behind *its* end. Had object `n + 1` been created already under the name
//! that our own plan gave it, a later attempt would write those records twice. So the next creation begins when the one
//! before is confirmed; speed comes from many partitions at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_api::prelude::*;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::client::{Body, MultipartUpload, NewObject, ObjectStore, Outcome};

/// First pause after a failed upload; it doubles up to the configured longest one.
const BACKOFF_INITIAL: Duration = Duration::from_millis(100);
/// How long an abandoned uploader may take to throw its parts away.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// Something to be uploaded.
#[derive(Debug)]
pub(crate) enum Command {
    /// A full part of an object that is still being filled.
    Part {
        file: u64,
        object: NewObject,
        body: Body,
        /// What `body` takes in memory.
        held: usize,
    },
    /// The rest of an object, after which it is to exist.
    Finish(Finish),
}

/// The end of an object.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) file: u64,
    pub(crate) object: NewObject,
    /// What no part has carried yet.
    pub(crate) body: Body,
    /// True where parts went ahead.
    pub(crate) in_parts: bool,
    /// Length of the whole object.
    pub(crate) length: u64,
    /// The beginning of the first record.
    pub(crate) sample: Option<String>,
    /// What `body` takes in memory.
    pub(crate) held: usize,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) partition: TopicPartition,
    /// The writer that it is meant for; those of an earlier assignment are ignored.
    pub(crate) writer: u64,
    pub(crate) what: What,
}

/// See [`Event`].
#[derive(Debug)]
pub(crate) enum What {
    /// A part is with the store, and out of memory.
    PartStored { held: usize },
    /// The object exists.
    Created(Box<Finish>),
    /// The object's name is taken, or the upload is gone. This uploader does nothing more.
    Contested { key: String },
    /// An attempt failed. A retriable one is repeated after a pause, others end this uploader.
    Failed(Error),
}

/// What an uploader needs.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Bounds the requests of the whole task.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) backoff_max: Duration,
}

/// A running uploader. Dropping it cuts it off as a crash would.
#[derive(Debug)]
pub(crate) struct Uploader {
    cancel: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Uploader {
    /// Starts an uploader. The commands are unbounded here; the writer counts what it has handed over and waits.
    pub(crate) fn start(
        surroundings: Surroundings,
        partition: TopicPartition,
        writer: u64,
    ) -> (Self, mpsc::UnboundedSender<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (cancel, cancelled) = oneshot::channel();
        let task = tokio::spawn(run(surroundings, partition, writer, receiver, cancelled));
        (Self { cancel: Some(cancel), task }, commands)
    }

    /// Drops the request in progress and everything queued, and throws parts away. A request that is under way may still
    /// take effect; the next attempt finds its object.
    pub(crate) async fn abandon(mut self) {
        drop(self.cancel.take());
        let _ = tokio::time::timeout(ABORT_PATIENCE, &mut self.task).await;
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    surroundings: Surroundings,
    partition: TopicPartition,
    writer: u64,
    mut commands: mpsc::UnboundedReceiver<Command>,
    cancelled: oneshot::Receiver<()>,
) {
    let mut uploads = BTreeMap::new();
    let tell = |what| {
        // Nobody listens any more when the task has stopped.
        let _ = surroundings.events.send(Event { partition: partition.clone(), writer, what });
    };
    tokio::select! {
        biased;
        _ = cancelled => {}
        () = work(&surroundings, &mut commands, &mut uploads, &tell) => {}
    }
    for upload in uploads.values_mut() {
        upload.abort().await;
    }
}

async fn work(
    surroundings: &Surroundings,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    uploads: &mut BTreeMap<u64, Box<dyn MultipartUpload>>,
    tell: &impl Fn(What),
) {
    while let Some(command) = commands.recv().await {
        let mut backoff = BACKOFF_INITIAL.min(surroundings.backoff_max);
        let outcome = loop {
            match attempt(surroundings, uploads, &command).await {
                Ok(outcome) => break outcome,
                Err(error) if error.is_retriable() => {
                    tell(What::Failed(error));
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(surroundings.backoff_max);
                }
                Err(error) => return tell(What::Failed(error)),
            }
        };
        match (outcome, command) {
            (Outcome::Created, Command::Part { body, held, .. }) => {
                // Its memory is back before anybody hears of it.
                drop(body);
                tell(What::PartStored { held });
            }
            (Outcome::Created, Command::Finish(mut finish)) => {
                finish.body = Body::default();
                uploads.remove(&finish.file);
                tell(What::Created(Box::new(finish)));
            }
            (Outcome::Contested, Command::Part { object, .. } | Command::Finish(Finish { object, .. })) => {
                return tell(What::Contested { key: object.key });
            }
        }
    }
}

async fn attempt(
    surroundings: &Surroundings,
    uploads: &mut BTreeMap<u64, Box<dyn MultipartUpload>>,
    command: &Command,
) -> Result<Outcome> {
    let _permit = surroundings.permits.acquire().await.expect("the semaphore is never closed");
    let store = &surroundings.store;
    let result = match command {
        Command::Part { file, object, body, .. } => {
            uploads.entry(*file).or_insert_with(|| store.create_in_parts(object)).part(body.clone()).await
        }
        Command::Finish(finish) if finish.in_parts => {
            let upload = uploads.get_mut(&finish.file).expect("parts went ahead");
            upload.finish(finish.body.clone()).await
        }
        Command::Finish(finish) => store.create(&finish.object, finish.body.clone()).await,
    };
    let (Command::Part { object, .. } | Command::Finish(Finish { object, .. })) = command;
    result.map_err(|error| error.with("object", &object.key))
}
