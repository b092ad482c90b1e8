//! Tasks of a library, as the worker's own are: each call is started, and its answer waited for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ottla_api::boundary::abi::{Message, method, status};
use ottla_api::boundary::body::{POLL_CAUGHT_UP, POLL_FINISHED, POLL_OFFSETS, POLL_RECORDS, StartParts};
use ottla_api::boundary::flat::{Flat, ReceivedSchemas, SentSchemas};
use ottla_api::boundary::message::{self, Received};
use ottla_api::offset::{Positions, SourceOffsets, TopicPartition};
use ottla_api::record::SinkBatch;
use ottla_api::sink::{CloseReason, FlushReason, SinkTask, SinkTaskContext};
use ottla_api::source::{SourcePoll, SourceTask, SourceTaskContext};
use ottla_api::{Error, Result};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::PluginOf;
use super::calls::{self, Answer};
use super::host::{Context, ContextNumber};
use super::library::{Library, Object, method_name};

/// A call that takes so long is worth a word.
const SLOW: Duration = Duration::from_secs(30);

/// How long a call that was cancelled for its slowness has to end.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);

/// A task in a library.
struct Task {
    plugin: PluginOf,
    object: Object,
    context: Option<ContextNumber>,
    /// The call that was not waited for to its end, because its future was dropped.
    pending: Option<Pending>,
    /// What such a call brought after all.
    left_over: Option<Received>,
    /// Why nothing is asked of it any more: it was given up, and its task has failed with that. Its end is its object's.
    dead: Option<String>,
}

struct Pending {
    method: u32,
    ticket: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Task {
    fn new(plugin: PluginOf, object: Object) -> Self {
        Self { plugin, object, context: None, pending: None, left_over: None, dead: None }
    }

    fn library(&self) -> &'static Library {
        self.object.library
    }

    /// Starts a method and waits for its answer. Where the future is dropped meanwhile, the library is asked to end the call, and the next
    /// call waits for that: no two overlap.
    async fn call(&mut self, method: u32, request: Message) -> Result<Received> {
        // Released in any case, also where the call is never made.
        let mut request = Unsent(Some(request));
        self.settle().await?;
        let library = self.library();
        library.still_answers()?;
        library.has_threads()?;
        let (ticket, answer) = calls::ticket(library, method);
        let pending = self.pending.insert(Pending { method, ticket, answer });
        let object = self.object.number;
        let mut guard = CancelOnDrop { library, object, ticket, armed: true };
        if let Some(request) = request.0.take() {
            library.start(object, method, request, ticket).await;
        }
        let limit = (method != method::POLL).then_some(library.call_timeout);
        let answering = wait(&mut pending.answer, limit, || {
            warn!(plugin = self.plugin.name, method = method_name(method), "has not answered for {SLOW:?}; waiting on");
        });
        let answer = tokio::select! {
            biased;
            answer = answering => answer,
            // A poll may wait for long, but not for a thread that there will not be.
            () = library.out_of_threads(), if limit.is_none() => Err(Silent),
        };
        guard.armed = false;
        if let Ok(answer) = answer {
            self.pending = None;
            return library.check(method_name(method), answer);
        }
        // What only waits can be ended. What holds its thread can't be.
        library.cancel(object, ticket);
        let ended = wait(&mut pending.answer, Some(library.call_timeout.min(CANCELLED_WITHIN)), || ()).await;
        self.pending = None;
        let error = match limit {
            None => library.has_threads().err().unwrap_or_else(|| library.too_slow(method_name(method))),
            Some(_) => library.too_slow(method_name(method)),
        };
        if ended.is_err() {
            calls::give_up(ticket);
        }
        Err(self.give_up(error))
    }

    /// Waits for a call whose future was dropped.
    async fn settle(&mut self) -> Result<()> {
        if let Some(why) = &self.dead {
            return Err(Error::fatal(why.clone()));
        }
        let library = self.library();
        let Some(pending) = &mut self.pending else { return Ok(()) };
        let (method, ticket) = (pending.method, pending.ticket);
        let answer = wait(&mut pending.answer, Some(library.call_timeout), || ()).await;
        self.pending = None;
        match answer {
            // Records that the source handed over in the very moment are the next poll's.
            Ok((status::OK, answer)) if method == method::POLL => self.left_over = Some(answer),
            Ok((status::CANCELLED, _)) => {}
            Ok(answer) => match library.check(method_name(method), answer) {
                Ok(_) => {}
                Err(error) => warn!(plugin = self.plugin.name, %error, "a call that nobody waited for any more failed"),
            },
            Err(Silent) => {
                calls::give_up(ticket);
                return Err(self.give_up(library.too_slow(method_name(method))));
            }
        }
        Ok(())
    }

    /// The task's state is not known any more, so nothing more is asked of it.
    fn give_up(&mut self, error: Error) -> Error {
        self.dead = Some(format!("the task is given up: {error}"));
        error
    }

    async fn start(&mut self, context: Context, connector: &Arc<str>, task: usize, state_dir: &Path) -> Result<()> {
        let number = ContextNumber::new(context);
        let parts: StartParts = (number.0, Arc::clone(connector), task as u32, state_dir.to_owned());
        self.context = Some(number);
        self.call(method::START, message::plain(&parts)).await.map(drop)
    }

    async fn ask<T: Flat>(&mut self, method: u32, request: &impl Flat) -> Result<T> {
        self.call(method, message::plain(request)).await?.read()
    }
}

/// No answer in time.
struct Silent;

async fn wait(
    answer: &mut oneshot::Receiver<Answer>,
    limit: Option<Duration>,
    slow: impl Fn(),
) -> Result<Answer, Silent> {
    let Some(limit) = limit else { return answer.await.map_err(|_| Silent) };
    if limit > SLOW {
        match timeout(SLOW, &mut *answer).await {
            Ok(answered) => return answered.map_err(|_| Silent),
            Err(_) => slow(),
        }
    }
    match timeout(limit.saturating_sub(if limit > SLOW { SLOW } else { Duration::ZERO }), answer).await {
        Ok(answered) => answered.map_err(|_| Silent),
        Err(_) => Err(Silent),
    }
}

/// A message that was not handed over yet.
struct Unsent(Option<Message>);

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some(message) = self.0.take() {
            // SAFETY: it is our own, and nobody else has it.
            drop(unsafe { Received::new(message) });
        }
    }
}

struct CancelOnDrop {
    library: &'static Library,
    object: u64,
    ticket: u64,
    armed: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.library.cancel(self.object, self.ticket);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Cancelled already, with the future that waited for it: most come back soon.
        if let Some(pending) = &self.pending {
            calls::give_up(pending.ticket);
        }
    }
}

/// A source task in a library.
pub(super) struct LoadedSourceTask {
    task: Task,
    received: ReceivedSchemas,
}

impl LoadedSourceTask {
    pub(super) fn new(plugin: PluginOf, object: Object) -> Self {
        Self { task: Task::new(plugin, object), received: ReceivedSchemas::default() }
    }
}

#[async_trait]
impl SourceTask for LoadedSourceTask {
    async fn start(&mut self, context: &SourceTaskContext) -> Result<()> {
        self.task.start(Context::Source(context.clone()), &context.connector, context.task, &context.state_dir).await
    }

    async fn poll(&mut self) -> Result<SourcePoll> {
        self.task.settle().await?;
        let answer = match self.task.left_over.take() {
            Some(answer) => answer,
            None => self.task.call(method::POLL, message::plain(&())).await?,
        };
        // With what the message announces: offsets have no schemas, records may.
        let (kind, offsets): (u8, SourceOffsets) = answer.read()?;
        match kind {
            POLL_RECORDS => Ok(SourcePoll::Records(message::read_source_records(answer, &mut self.received)?)),
            POLL_OFFSETS => Ok(SourcePoll::Offsets(offsets)),
            POLL_CAUGHT_UP => Ok(SourcePoll::CaughtUp),
            POLL_FINISHED => Ok(SourcePoll::Finished),
            other => Err(Error::fatal(format!("a poll ended in a way that this worker does not know, {other}"))),
        }
    }

    async fn commit(&mut self, durable: &SourceOffsets) -> Result<()> {
        self.task.ask(method::COMMIT, durable).await
    }

    async fn stop(&mut self) -> Result<()> {
        if self.task.dead.is_some() {
            return Ok(());
        }
        self.task.ask(method::STOP, &()).await
    }
}

/// A sink task in a library.
pub(super) struct LoadedSinkTask {
    task: Task,
    sent: SentSchemas,
}

impl LoadedSinkTask {
    pub(super) fn new(plugin: PluginOf, object: Object) -> Self {
        Self { task: Task::new(plugin, object), sent: SentSchemas::default() }
    }
}

#[async_trait]
impl SinkTask for LoadedSinkTask {
    async fn start(&mut self, context: &SinkTaskContext) -> Result<()> {
        self.task.start(Context::Sink(context.clone()), &context.connector, context.task, &context.state_dir).await
    }

    async fn open(&mut self, committed: &Positions) -> Result<Positions> {
        self.task.ask(method::OPEN, committed).await
    }

    async fn put(&mut self, batch: &SinkBatch) -> Result<()> {
        // Schemas are announced in the order in which messages arrive: none is made before the last one has.
        self.task.settle().await?;
        self.task.call(method::PUT, message::sink_batch(batch, &mut self.sent)).await.map(drop)
    }

    async fn flush(&mut self, reason: FlushReason) -> Result<Positions> {
        self.task.ask(method::FLUSH, &reason).await
    }

    async fn close(&mut self, partitions: &[TopicPartition], reason: CloseReason) -> Result<()> {
        if self.task.dead.is_some() {
            return Ok(());
        }
        self.task.ask(method::CLOSE, &(partitions.to_vec(), reason)).await
    }

    async fn tick(&mut self) -> Result<()> {
        self.task.ask(method::TICK, &()).await
    }

    async fn stop(&mut self) -> Result<()> {
        if self.task.dead.is_some() {
            return Ok(());
        }
        self.task.ask(method::STOP, &()).await
    }
}
