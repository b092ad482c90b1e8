//! Tasks of a library: each call runs on the library's own runtime and answers exactly once, whatever becomes of it.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context as TaskContext, Poll};

use ottla_plugin_abi::{Message, method, status};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::context::Context;
use super::objects::Object;
use super::{library, log, panic_text, plain};
use crate::boundary::body::{POLL_CAUGHT_UP, POLL_FINISHED, POLL_OFFSETS, POLL_RECORDS, StartParts};
use crate::boundary::flat::{ReceivedSchemas, SentSchemas};
use crate::boundary::message::{self, Received};
use crate::error::Result;
use crate::offset::{Positions, SourceOffsets, TopicPartition};
use crate::sink::{CloseReason, FlushReason, SinkTask, SinkTaskContext};
use crate::source::{SourcePoll, SourceTask, SourceTaskContext};

/// The calls that run now, each with what ends it early.
static RUNNING: Mutex<Option<HashMap<u64, Arc<Notify>>>> = Mutex::new(None);

fn running<T>(work: impl FnOnce(&mut HashMap<u64, Arc<Notify>>) -> T) -> T {
    work(RUNNING.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Ends a call soon, where it still runs.
pub(crate) fn cancel(ticket: u64) {
    if let Some(cancelled) = running(|running| running.get(&ticket).cloned()) {
        cancelled.notify_one();
    }
}

/// The duty to answer a call. Whoever lets it go without an answer has answered that.
pub(crate) struct Ticket {
    number: u64,
    answered: bool,
}

impl Ticket {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, answered: false }
    }

    pub(crate) fn unknown_method(self) {
        self.answer(status::UNKNOWN_METHOD, Message::EMPTY);
    }

    fn answer(mut self, status: i32, message: Message) {
        self.answered = true;
        running(|running| running.remove(&self.number));
        (library().host.done)(self.number, status, &message);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            running(|running| running.remove(&self.number));
            let words = plain(&"the call ended without an answer".to_owned());
            (library().host.done)(self.number, status::PANICKED, &words);
        }
    }
}

/// What comes of a method: an answer, or nothing where there is no such method.
type Answer = Result<Option<Message>>;

/// Runs a call on the library's runtime, on behalf of `task`, and answers.
fn run(ticket: Ticket, task: Option<Arc<str>>, call: impl Future<Output = Answer> + Send + 'static) {
    let cancelled = Arc::new(Notify::new());
    running(|running| running.insert(ticket.number, Arc::clone(&cancelled)));
    library().runtime.spawn(async move {
        let guarded = Guarded { call: Box::pin(call), task };
        let ended = tokio::select! {
            // First: a call that is to end is not polled once more, so that it can't get hold of something and lose it.
            biased;
            () = cancelled.notified() => None,
            ended = guarded => Some(ended),
        };
        match ended {
            None => ticket.answer(status::CANCELLED, Message::EMPTY),
            Some(Ok(Ok(Some(message)))) => ticket.answer(status::OK, message),
            Some(Ok(Ok(None))) => ticket.unknown_method(),
            Some(Ok(Err(error))) => ticket.answer(status::FAILED, plain(&error)),
            Some(Err(panic)) => ticket.answer(status::PANICKED, plain(&panic_text(panic))),
        }
    });
}

/// A call whose panics end here and whose log lines are its task's.
struct Guarded<F> {
    call: Pin<Box<F>>,
    task: Option<Arc<str>>,
}

impl<F: Future<Output = Answer>> Future for Guarded<F> {
    type Output = Result<Answer, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Self { call, task } = &mut *self;
        match catch_unwind(AssertUnwindSafe(|| log::on_behalf_of(task, || call.as_mut().poll(context)))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// A task behind the boundary, and what its messages need.
struct TaskState<T: ?Sized> {
    received: ReceivedSchemas,
    sent: SentSchemas,
    task: Box<T>,
}

impl<T: ?Sized> TaskState<T> {
    fn new(task: Box<T>) -> AsyncMutex<Self> {
        AsyncMutex::new(Self { received: ReceivedSchemas::default(), sent: SentSchemas::default(), task })
    }
}

/// The task's name in the log, from its start on.
fn learn_name(name: &OnceLock<Arc<str>>, method: u32, request: &Received) {
    if method == method::START
        && let Ok((_, connector, number, _)) = request.read::<StartParts>()
    {
        let _ = name.set(format!("{connector}-{number}").into());
    }
}

/// A source task by number.
pub(crate) struct SourceTaskObject {
    state: AsyncMutex<TaskState<dyn SourceTask>>,
    name: OnceLock<Arc<str>>,
}

impl SourceTaskObject {
    pub(crate) fn new(task: Box<dyn SourceTask>) -> Self {
        Self { state: TaskState::new(task), name: OnceLock::new() }
    }

    /// Its name in the log, once it was started.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.name.get().cloned()
    }

    /// `object` is this one.
    pub(crate) fn start(&self, object: &Arc<Object>, method: u32, request: Received, ticket: Ticket) {
        let object = Arc::clone(object);
        learn_name(&self.name, method, &request);
        run(ticket, self.name(), async move {
            match &*object {
                Object::SourceTask(this) => this.call(method, request).await,
                _ => Ok(None),
            }
        });
    }

    async fn call(&self, method: u32, request: Received) -> Answer {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        Ok(Some(match method {
            method::START => {
                let (context, connector, number, state_dir): StartParts = request.read()?;
                let host = Arc::new(Context(context));
                let context = SourceTaskContext::new(connector, number as usize, state_dir, host);
                plain(&state.task.start(&context).await?)
            }
            method::POLL => match state.task.poll().await? {
                SourcePoll::Records(records) => {
                    message::source_records(&(POLL_RECORDS, SourceOffsets::new()), &records, &mut state.sent)
                }
                SourcePoll::Offsets(offsets) => plain(&(POLL_OFFSETS, offsets)),
                SourcePoll::CaughtUp => plain(&(POLL_CAUGHT_UP, SourceOffsets::new())),
                SourcePoll::Finished => plain(&(POLL_FINISHED, SourceOffsets::new())),
            },
            method::COMMIT => plain(&state.task.commit(&request.read::<SourceOffsets>()?).await?),
            method::STOP => plain(&state.task.stop().await?),
            _ => return Ok(None),
        }))
    }
}

/// A sink task by number.
pub(crate) struct SinkTaskObject {
    state: AsyncMutex<TaskState<dyn SinkTask>>,
    name: OnceLock<Arc<str>>,
}

impl SinkTaskObject {
    pub(crate) fn new(task: Box<dyn SinkTask>) -> Self {
        Self { state: TaskState::new(task), name: OnceLock::new() }
    }

    /// Its name in the log, once it was started.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.name.get().cloned()
    }

    /// `object` is this one.
    pub(crate) fn start(&self, object: &Arc<Object>, method: u32, request: Received, ticket: Ticket) {
        let object = Arc::clone(object);
        learn_name(&self.name, method, &request);
        run(ticket, self.name(), async move {
            match &*object {
                Object::SinkTask(this) => this.call(method, request).await,
                _ => Ok(None),
            }
        });
    }

    async fn call(&self, method: u32, request: Received) -> Answer {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        let task = &mut state.task;
        Ok(Some(match method {
            method::START => {
                let (context, connector, number, state_dir): StartParts = request.read()?;
                let host = Arc::new(Context(context));
                let context = SinkTaskContext::new(connector, number as usize, state_dir, host);
                plain(&task.start(&context).await?)
            }
            method::OPEN => plain(&task.open(&request.read::<Positions>()?).await?),
            method::PUT => {
                let batch = message::read_sink_batch(request, &mut state.received)?;
                plain(&task.put(&batch).await?)
            }
            method::FLUSH => plain(&task.flush(request.read::<FlushReason>()?).await?),
            method::CLOSE => {
                let (partitions, reason): (Vec<TopicPartition>, CloseReason) = request.read()?;
                plain(&task.close(&partitions, reason).await?)
            }
            method::TICK => plain(&task.tick().await?),
            method::STOP => plain(&task.stop().await?),
            _ => return Ok(None),
        }))
    }
}
