//! A store that fails on purpose: before the effect, after it, with a conflict that is none, slowly, or for good.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A file that must not exist: a commit.
    Create,
    /// A file at once.
    Put,
    /// The completion of a file in parts.
    Upload,
    Get,
    List,
    Delete,
}

/// One call.
#[derive(Debug)]
pub struct Call<'a> {
    pub operation: Operation,
    pub path: &'a str,
    /// How many calls of this operation for this path came before.
    pub number: u64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It fails without an effect, as a 503 does.
    Fail,
    /// It takes effect, and the answer is lost.
    Lose,
    /// S3's 409: another request is being decided, which the client takes for a file that exists.
    Conflict,
    /// It takes its time.
    Slow(Duration),
    /// The process dies before the effect: nothing of it reaches the store any more.
    DieBefore,
    /// The process dies after the effect.
    DieAfter,
}

/// A store in front of another one. One is a process: it dies as a whole.
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<State>,
}

struct State {
    decide: Box<dyn Fn(&Call<'_>) -> Fault + Send + Sync>,
    calls: Mutex<BTreeMap<(Operation, String), u64>>,
    dead: watch::Sender<bool>,
}

impl FaultStore {
    /// `decide` is asked at each call.
    pub fn new(inner: Arc<dyn ObjectStore>, decide: impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static) -> Arc<Self> {
        let state = State { decide: Box::new(decide), calls: Mutex::default(), dead: watch::Sender::new(false) };
        Arc::new(Self { inner, state: Arc::new(state) })
    }

    /// True once a call was fatal.
    pub fn is_dead(&self) -> bool {
        *self.state.dead.borrow()
    }

    /// Ends when a call was fatal.
    pub async fn death(&self) {
        let _ = self.state.dead.subscribe().wait_for(|dead| *dead).await;
    }
}

impl State {
    /// Runs a call with what is decided about it.
    async fn call<T>(&self, operation: Operation, path: &str, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.decide(operation, path);
        match fault {
            _ if *self.dead.borrow() => Err(error("the process is dead")),
            Fault::None => effect.await,
            Fault::Fail => Err(error("503 SlowDown")),
            Fault::Lose => effect.await.and_then(|_| Err(error("the answer was lost"))),
            Fault::Conflict if operation == Operation::Create => {
                Err(Error::AlreadyExists { path: path.to_owned(), source: "409 ConditionalRequestConflict".into() })
            }
            Fault::Conflict => Err(error("409")),
            Fault::Slow(pause) => {
                tokio::time::sleep(pause).await;
                effect.await
            }
            Fault::DieBefore => {
                self.dead.send_replace(true);
                Err(error("the process dies"))
            }
            Fault::DieAfter => {
                let _ = effect.await;
                self.dead.send_replace(true);
                Err(error("the process dies"))
            }
        }
    }

    fn decide(&self, operation: Operation, path: &str) -> Fault {
        let mut calls = self.calls.lock();
        let number = calls.entry((operation, path.to_owned())).or_default();
        let call = Call { operation, path, number: *number };
        *number += 1;
        (self.decide)(&call)
    }
}

fn error(text: &str) -> Error {
    Error::Generic { store: "faults", source: text.into() }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({:?})", self.inner)
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let operation = if matches!(options.mode, PutMode::Create) { Operation::Create } else { Operation::Put };
        self.state.call(operation, location.as_ref(), self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(FaultUpload { inner, path: location.to_string(), state: Arc::clone(&self.state) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.state.call(Operation::Get, location.as_ref(), self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, state) = (Arc::clone(&self.inner), Arc::clone(&self.state));
        let delete = move |location: Result<Path>| {
            let (inner, state) = (Arc::clone(&inner), Arc::clone(&state));
            async move {
                let location = location?;
                let path = location.to_string();
                let one = stream::once(std::future::ready(Ok(location))).boxed();
                let effect = async { inner.delete_stream(one).next().await.expect("one answer") };
                state.call(Operation::Delete, &path, effect).await
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.map(ToString::to_string).unwrap_or_default();
        self.state.call(Operation::List, &path, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.state.call(Operation::Put, to.as_ref(), self.inner.copy_opts(from, to, options)).await
    }
}

impl FaultStore {
    fn listing(
        &self,
        prefix: Option<&Path>,
        inner: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (state, path) = (Arc::clone(&self.state), prefix.map(ToString::to_string).unwrap_or_default());
        let begin = async move {
            match state.call(Operation::List, &path, async { Ok(()) }).await {
                Ok(()) => inner,
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        begin.into_stream().flatten().boxed()
    }
}

struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    path: String,
    state: Arc<State>,
}

impl fmt::Debug for FaultUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultUpload({})", self.path)
    }
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.state.call(Operation::Upload, &self.path, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
