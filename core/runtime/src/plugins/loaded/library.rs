//! One open library: asking it something, and waiting for that without being held up.

use std::ffi::c_int;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ottla_api::boundary::abi::{Descriptor, InitOptions, Message, SYMBOL, Slice, flags, method, status};
use ottla_api::boundary::body::PluginParts;
use ottla_api::boundary::flat::{Flat, ReceivedSchemas, SentSchemas};
use ottla_api::boundary::message::{self, Received};
use ottla_api::record::Record;
use ottla_api::{Error, Result};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tracing::warn;

use super::check::Examined;
use super::{Limits, host};

/// So many hanging calls, and a library is asked nothing more: each holds a thread for ever.
const HANGING_MAX: isize = 16;

/// How long the end of an object is waited for, where calls may take longer than that.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// A library, for ever.
pub(super) struct Library {
    /// Its name, for people.
    pub(super) name: String,
    pub(super) call_timeout: Duration,
    descriptor: &'static Descriptor,
    /// Calls that were given up and have not come back. Below zero for a moment, where one comes back before it is counted.
    hanging: AtomicIsize,
    /// Of these, those that hold a thread of the library's own runtime; and how many threads that has. Nothing where the worker's are used.
    held: watch::Sender<usize>,
    threads: Option<usize>,
    /// Answers that nobody had asked for.
    pub(super) thrown_away: AtomicU64,
}

impl Library {
    /// Opens a library that was found fit.
    pub(super) fn open(path: &Path, examined: &Examined, limits: &Limits) -> Result<&'static Self> {
        let refused = |why: String| Error::config(format!("{}: {why}", path.display()));
        let path_to_open = path.canonicalize().map_err(|error| refused(format!("can't be read: {error}")))?;
        let timeout = limits.call_timeout;
        // Code of the library's may run in here already: what its own C++ or constructors do at loading.
        let watch = LoaderWatch::begin(path, timeout);
        let opened = open(&path_to_open);
        drop(watch);
        let descriptor = opened?;
        if (descriptor.abi_major, descriptor.abi_minor) != examined.note.abi {
            return Err(refused(format!(
                "its descriptor is of plugin ABI {}.{}, its note of {}.{}: it is damaged",
                descriptor.abi_major, descriptor.abi_minor, examined.note.abi.0, examined.note.abi.1
            )));
        }
        let name = examined.note.name.clone();
        let library: &'static Self = Box::leak(Box::new(Self {
            name,
            call_timeout: timeout,
            descriptor,
            hanging: AtomicIsize::new(0),
            held: watch::Sender::new(0),
            threads: (descriptor.flags & flags::STARTS_AT_ONCE != 0).then_some(limits.threads),
            thrown_away: AtomicU64::new(0),
        }));
        library.init(limits).and_then(|()| library.self_test()).map_err(|error| {
            Error::config(format!("{}: it does not pass the test at its loading", path.display())).caused_by(error)
        })?;
        Ok(library)
    }

    fn init(&'static self, limits: &Limits) -> Result<()> {
        let threads = limits.threads as u32;
        let answer = self.guarded("init", move |library| {
            let options = InitOptions {
                size: size_of::<InitOptions>() as u32,
                threads,
                log_level: host::log_level(),
                reserved: 0,
                name: Slice::of(library.name.as_bytes()),
            };
            let mut reply = Message::EMPTY;
            let ended = (library.descriptor.init)(&host::HOST, &options, &mut reply);
            // SAFETY: what the library answers is ours to release, by contract.
            (ended, unsafe { Received::new(reply) })
        })?;
        self.check("init", answer).map(drop)
    }

    /// A record and an error there and back, before anything depends on them.
    fn self_test(&'static self) -> Result<()> {
        let mut sample = Record::new("a topic", flat_sample());
        sample.headers.add("a header", vec_of_bytes());
        sample.timestamp = Some(1);
        let mut received = ReceivedSchemas::default();
        let answer = self.call(0, method::ECHO, &Some(sample.clone()), &mut SentSchemas::default())?;
        let echo: Record = answer.read_with(&mut received)?;
        if echo != sample {
            return Err(Error::fatal("it gives back another record than it was given"));
        }
        match self.call(0, method::ECHO, &None::<Record>, &mut SentSchemas::default()) {
            Err(error) if error.message() == "nothing to echo" => Ok(()),
            Err(error) => Err(Error::fatal("it answers with another error than it should").caused_by(error)),
            Ok(_) => Err(Error::fatal("it answers well where it should answer with an error")),
        }
    }

    /// What it holds.
    pub(super) fn plugins(&'static self) -> Result<Vec<PluginParts>> {
        self.ask(0, method::PLUGINS, &())
    }

    /// Checks the text of an option.
    pub(super) fn check_option(&'static self, plugin: u32, option: u32, text: &str) -> Result<(), String> {
        match self.ask::<Option<String>>(0, method::CHECK_OPTION, &(plugin, option, text.to_owned())) {
            Ok(None) => Ok(()),
            Ok(Some(wrong)) => Err(wrong),
            Err(error) => Err(format!("could not be checked: {error}")),
        }
    }

    /// Asks something that is answered at once, on a thread that may hang.
    pub(super) fn ask<T: Flat>(&'static self, object: u64, method: u32, request: &impl Flat) -> Result<T> {
        self.call(object, method, request, &mut SentSchemas::default())?.read()
    }

    fn call(
        &'static self,
        object: u64,
        method: u32,
        request: &impl Flat,
        schemas: &mut SentSchemas,
    ) -> Result<Received> {
        let request = message::message(request, schemas);
        let answer = self.guarded(method_name(method), move |library| library.call_here(object, method, request))?;
        self.check(method_name(method), answer)
    }

    /// Asks something on this thread. The answer may be one that the library lends until its next call on this object.
    pub(super) fn call_here(&'static self, object: u64, method: u32, request: Message) -> (i32, Received) {
        let mut reply = Message::EMPTY;
        let ended = (self.descriptor.call)(object, method, &request, &mut reply);
        // SAFETY: by contract.
        (ended, unsafe { Received::new(reply) })
    }

    /// Starts something. Done at once for libraries that promise so, else on a thread of its own.
    pub(super) async fn start(&'static self, object: u64, method: u32, request: Message, ticket: u64) {
        if self.descriptor.flags & flags::STARTS_AT_ONCE != 0 {
            (self.descriptor.start)(object, method, &request, ticket);
            return;
        }
        // Not waited for: it counts from when the answer is waited for.
        tokio::task::spawn_blocking(move || (self.descriptor.start)(object, method, &request, ticket));
    }

    /// Asks that a call end.
    pub(super) fn cancel(&'static self, object: u64, ticket: u64) {
        if self.descriptor.flags & flags::STARTS_AT_ONCE != 0 {
            (self.descriptor.cancel)(object, ticket);
        } else {
            let _ = self.guarded("cancel", move |library| (library.descriptor.cancel)(object, ticket));
        }
    }

    /// What an answer means: the message, or the error in it.
    pub(super) fn check(&self, method: &str, (ended, answer): (i32, Received)) -> Result<Received> {
        match ended {
            status::OK => Ok(answer),
            status::FAILED => Err(answer.read::<Error>().unwrap_or_else(|error| error)),
            status::PANICKED => {
                let words = answer.read::<String>().unwrap_or_else(|_| "without a message".to_owned());
                Err(Error::fatal(format!("the library '{}' panicked in {method}: {words}", self.name)))
            }
            status::CANCELLED => Err(Error::fatal(format!("the call of {method} was cancelled"))),
            status::UNKNOWN_METHOD => Err(Error::fatal(format!(
                "the library '{}' has no {method} there; it and this worker do not fit together",
                self.name
            ))),
            other => {
                Err(Error::fatal(format!("the library '{}' ended {method} with an unknown status, {other}", self.name)))
            }
        }
    }

    /// Runs a call on a thread of its own, and waits for it within the time that calls have. The thread of a call that hangs is lost,
    /// until it comes back after all.
    fn guarded<T: Send + 'static>(
        &'static self,
        method: &str,
        call: impl FnOnce(&'static Self) -> T + Send + 'static,
    ) -> Result<T> {
        self.still_answers()?;
        let name = format!("call-{}", self.name);
        within(self.call_timeout, &name, move || call(self), || self.came_back()).ok_or_else(|| self.hangs(method))
    }

    /// Lets an object go.
    fn release(&'static self, number: u64) -> Result<()> {
        self.still_answers()?;
        let limit = self.call_timeout.min(RELEASED_WITHIN);
        let release = move || (self.descriptor.release)(number);
        within(limit, &format!("call-{}", self.name), release, || self.came_back()).ok_or_else(|| {
            self.hangs("release");
            Error::fatal(format!("the library '{}' has not ended release for {limit:?}: it hangs", self.name))
        })
    }

    /// An error where too many calls hang.
    pub(super) fn still_answers(&self) -> Result<()> {
        match self.hanging.load(Relaxed) {
            hanging if hanging >= HANGING_MAX => Err(Error::fatal(format!(
                "{hanging} calls of the library '{}' hang; it is asked nothing more before one comes back, or the worker is started again",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// Counts a call that hangs, and says so.
    #[cold]
    pub(super) fn hangs(&self, method: &str) -> Error {
        self.hanging.fetch_add(1, Relaxed);
        self.too_slow(method)
    }

    /// Counts a call that was started, and was not ended by its cancel either.
    pub(super) fn holds(&self) {
        self.hanging.fetch_add(1, Relaxed);
        self.held.send_modify(|held| *held += 1);
    }

    /// A call that was counted so has ended.
    pub(super) fn let_go(&self) {
        self.came_back();
        self.held.send_modify(|held| *held -= 1);
    }

    /// An error where the library has no thread left for a task.
    pub(super) fn has_threads(&self) -> Result<()> {
        match self.threads {
            Some(threads) if *self.held.borrow() >= threads => Err(Error::fatal(format!(
                "calls that do not come back hold all {threads} threads of the library '{}' (plugin.threads): none of its tasks can go on before \
                 one does, or the worker is started again",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// Ends when the library has no thread left.
    pub(super) async fn out_of_threads(&self) {
        let Some(threads) = self.threads else { return std::future::pending().await };
        // The sender lives as long as this does.
        let _ = self.held.subscribe().wait_for(|held| *held >= threads).await;
    }

    /// A call that was counted as one that hangs has come back.
    pub(super) fn came_back(&self) {
        self.hanging.fetch_sub(1, Relaxed);
    }

    /// The error about a call that was not answered in time.
    pub(super) fn too_slow(&self, method: &str) -> Error {
        Error::fatal(format!(
            "the library '{}' has not answered {method} for {:?} (plugin.call.timeout.ms): it hangs, or needs longer than that",
            self.name, self.call_timeout
        ))
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Library({})", self.name)
    }
}

unsafe extern "C" {
    /// Of the C library: the end of the process, and nothing before it.
    safe fn _exit(status: c_int) -> !;
}

/// Set before the first code of a library runs.
static CODE_RAN: AtomicBool = AtomicBool::new(false);

/// Ends the process, as [`std::process::exit`] does, but without what libraries of plugins, if any were opened, have registered for
/// its end: that is their own code, and may hang or crash.
pub fn end_process(code: u8) -> ! {
    if CODE_RAN.load(Relaxed) {
        // What is written is all that is left to do; that nobody reads it is no reason to stay.
        let _ = std::io::stdout().flush();
        let _ = std::io::stderr().flush();
        _exit(c_int::from(code));
    }
    std::process::exit(i32::from(code))
}

/// Watches over the opening of a library. While its start-up code runs, the C library's loader holds a lock that every thread needs sooner or later:
/// for its first thread-local with a destructor already, and for the process's end. With code that hangs in there no worker can go on, so the
/// process ends while it can still say why. Libraries are opened before anything else starts, so nothing is lost.
struct LoaderWatch {
    opened: Arc<AtomicBool>,
}

impl LoaderWatch {
    /// How often the watch looks up. It can't be woken: whatever waits for something may need the lock.
    const LOOK_EVERY: Duration = Duration::from_millis(5);

    fn begin(path: &Path, timeout: Duration) -> Self {
        let words = format!(
            "{}: loading it has not ended after {timeout:?} (plugin.call.timeout.ms): it hangs in its own start-up code, and this process can't \
             go on with that; repair the library, or take it out of plugin.path\n",
            path.display()
        );
        let opened = Arc::new(AtomicBool::new(false));
        let (theirs, began) = (Arc::clone(&opened), Instant::now());
        let (ready, is_ready) = channel();
        let watching = std::thread::Builder::new().name("ottla-load".to_owned()).spawn(move || {
            // All that a thread needs of the loader it has needed by now.
            let mut stderr = std::io::stderr();
            drop((stderr.flush(), ready.send(())));
            while !theirs.load(Acquire) {
                if began.elapsed() > timeout {
                    let _ = stderr.write_all(words.as_bytes());
                    _exit(2);
                }
                std::thread::sleep(Self::LOOK_EVERY);
            }
        });
        match watching {
            Ok(_) => drop(is_ready.recv()),
            Err(error) => warn!(%error, "no thread to watch over the loading of a library"),
        }
        Self { opened }
    }
}

impl Drop for LoaderWatch {
    fn drop(&mut self) {
        self.opened.store(true, Release);
    }
}

fn open(path: &Path) -> Result<&'static Descriptor> {
    let refused =
        |error: libloading::Error| Error::config(format!("{}: can't be loaded", path.display())).caused_by(error);
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    CODE_RAN.store(true, Relaxed);
    // SAFETY: the file says by its note that it is a library of plugins; what it does at loading is its own, as of any plugin.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(refused)?;
    // SAFETY: under this name a library of plugins exports a descriptor; that it is one of this version, the note says.
    let descriptor = unsafe { library.get::<*const Descriptor>(SYMBOL.as_bytes()) }.map_err(refused)?.into_raw();
    // Never unloaded: threads, callbacks and thread-locals of the library would be left behind.
    std::mem::forget(library);
    // SAFETY: the address of an exported static, which stays as long as the library.
    Ok(unsafe { &*descriptor.cast::<Descriptor>() })
}

/// Runs something on a thread of its own; nothing where it has not ended in time: then `late` is called when it does. The threads that
/// others need are not held up meanwhile.
fn within<T: Send + 'static>(
    limit: Duration,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
    late: impl FnOnce() + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = channel();
    // Set by whoever comes first: the thread with its result, or the caller at the end of its patience.
    let decided = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&decided);
    let thread = std::thread::Builder::new().name(name.chars().take(15).collect()).spawn(move || {
        // Nobody may wait any more.
        let _ = sender.send(work());
        if theirs.swap(true, AcqRel) {
            late();
        }
    });
    if let Err(error) = thread {
        warn!(%error, "no thread for a call of a plugin");
        return None;
    }
    let wait = || match receiver.recv_timeout(limit) {
        Ok(done) => Some(done),
        Err(_) if decided.swap(true, AcqRel) => receiver.try_recv().ok(),
        Err(_) => None,
    };
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Something that a library made. Dropping it lets the library let it go.
pub(super) struct Object {
    pub(super) library: &'static Library,
    pub(super) number: u64,
}

impl Object {
    pub(super) fn new(library: &'static Library, number: u64) -> Self {
        Self { library, number }
    }

    /// Asks it something that is answered at once.
    pub(super) fn ask<T: Flat>(&self, method: u32, request: &impl Flat) -> Result<T> {
        self.library.ask(self.number, method, request)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let number = self.number;
        // What the plugin does at its end is its own code, and may hang. Waiting for it lets a successor find what this one held free,
        // but the failure of a task is not told before it is dropped, so that is not waited for as long as for an answer.
        if let Err(error) = self.library.release(number) {
            warn!(%error, "letting something of a plugin go");
        }
    }
}

/// A value of every shape, for the test at loading.
fn flat_sample() -> ottla_api::data::Value {
    use ottla_api::data::{Map, Value};
    let list = vec![Value::Null, true.into(), (-1i8).into(), 1.5f64.into(), "text".into(), Value::Timestamp(0)];
    let map: Map = [("list", Value::Array(list)), ("number", Value::Number("1e400".into()))].into_iter().collect();
    Value::Map(map)
}

fn vec_of_bytes() -> ottla_api::data::Value {
    ottla_api::data::Value::Bytes(bytes::Bytes::from_static(&[0, 255]))
}

/// What a method is called in messages.
pub(super) fn method_name(number: u32) -> &'static str {
    match number {
        method::ECHO => "the test at loading",
        method::PLUGINS => "the list of plugins",
        method::CHECK_OPTION => "the check of an option",
        method::MAKE => "the constructor",
        method::VALIDATE => "validate",
        method::TASKS => "tasks",
        method::TASK => "task",
        method::DESTINATION => "destination",
        method::APPLY => "apply",
        method::IS_DETERMINISTIC => "is_deterministic",
        method::TEST => "test",
        method::TO_CONNECT => "to_connect",
        method::FROM_CONNECT => "from_connect",
        method::GET => "get",
        method::START => "start",
        method::STOP => "stop",
        method::POLL => "poll",
        method::COMMIT => "commit",
        method::OPEN => "open",
        method::PUT => "put",
        method::FLUSH => "flush",
        method::CLOSE => "close",
        method::TICK => "tick",
        _ => "a method",
    }
}
