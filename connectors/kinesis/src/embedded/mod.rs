//! A Kinesis for laptops: the Kinesis API served in this process, its streams durable in a folder.
//!
//! ```no_run
//! # async fn example() -> ottla_api::Result<()> {
//! use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
//! use ottla_connector_kinesis::embedded::EmbeddedKinesis;
//!
//! let kinesis = EmbeddedKinesis::open("state".as_ref())?;
//! let config = aws_sdk_kinesis::Config::builder()
//!     .behavior_version(BehaviorVersion::latest())
//!     .region(Region::new("us-east-1"))
//!     .credentials_provider(Credentials::new("any", "any", None, None, "embedded"))
//!     .endpoint_url("http://embedded.invalid")
//!     .http_client(kinesis.http_client())
//!     .build();
//! let client = aws_sdk_kinesis::Client::from_conf(config);
//! # Ok(()) }
//! ```
//!
//! # What it is, and what it is not
//!
//! Every action on streams, shards, records and consumers, with AWS's answers and errors: hash ranges by MD5, sequence numbers
//! of the real layout, iterators that expire, parents before children, retention, enhanced fan-out. A put that was answered
//! survives `kill -9`.
//!
//! - Nobody is asked who they are: signatures are not checked, and there is one account, `000000000000`. The region of the
//!   caller's credential scope (or `us-east-1`) decorates ARNs; streams are the same in all regions.
//! - Limits of sizes always hold. Limits of rates are for those who ask for them with [`Options::rate_limits`].
//! - On-demand streams take any number of records with the shards they were made with; they don't split by themselves.
//! - Encryption, resource policies, enhanced monitoring, channels and account settings are answered with
//!   `UnknownOperationException`.
//!
//! # Code map
//!
//! | File | What it holds |
//! |---|---|
//! | `api/` | the actions, one function each |
//! | `wire.rs`, `cbor.rs`, `events.rs` | requests, answers and errors; the other encoding; event streams |
//! | `in_process.rs`, `server.rs` | the two ways in: no socket, and HTTP/1.1 |
//! | `storage.rs` | the folder: one thread writes, many calls share a commit |
//! | `stream.rs`, `sequence.rs` | shards, hash ranges, split and merge; sequence numbers |
//! | `iterator.rs`, `limits.rs` | tokens; sizes and rates |
//! | `faults.rs` | faults that a test asks for |

mod api;
mod cbor;
mod events;
mod faults;
mod in_process;
mod iterator;
mod limits;
mod sequence;
mod server;
mod storage;
mod stream;
mod wire;

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ottla_api::{ErrorKind, Result, error::ResultExt};
use parking_lot::Mutex;

use events::Subscriptions;
pub use faults::{Action, Fault, Faults};
use iterator::Tokens;
use limits::Rates;
use storage::Store;

/// One Kinesis, its streams in `<state_dir>/kinesis`. Opening the same folder again in this process gives the same one.
///
/// The folder is closed when the last handle, client and subscription is gone. Other processes can't open it until then.
#[derive(Debug)]
pub struct EmbeddedKinesis {
    options: Options,
    store: Store,
    tokens: Tokens,
    rates: Rates,
    subscriptions: Subscriptions,
    faults: Faults,
}

/// How an [`EmbeddedKinesis`] behaves. The defaults are for laptops: durable, and as fast as it goes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether an answer to a put waits for the disk. Without it puts survive the end of the process, not of the machine.
    /// Default true.
    pub fsync: bool,
    /// What time it is. Default [`SystemClock`].
    pub clock: Arc<dyn Clock>,
    /// Shards of a stream made without `ShardCount`. Default 5, as the API gateway in front of Kinesis had it; on AWS an
    /// on-demand stream has 4 and a provisioned one must say.
    pub shard_count: u32,
    /// Open shards of all streams together, beyond which `LimitExceededException` answers. Default 500, AWS's quota in
    /// most regions.
    pub shard_limit: u32,
    /// How long a shard iterator, or the token of a listing, is good. Default 300 s, as on AWS.
    pub iterator_life: Duration,
    /// How long a stream is CREATING. Default none.
    pub create_duration: Duration,
    /// How long a stream is DELETING. Default none.
    pub delete_duration: Duration,
    /// How long a stream is UPDATING after a split, a merge, or a new shard count. Default none.
    pub update_duration: Duration,
    /// How long a consumer is CREATING. Default none.
    pub register_duration: Duration,
    /// When a SubscribeToShard ends by itself. Default 5 minutes, as on AWS.
    pub subscription_life: Duration,
    /// How soon after a SubscribeToShard the same consumer can't subscribe to the same shard again. Default 5 s, as on AWS.
    pub resubscribe_pause: Duration,
    /// How often a subscription says that there is nothing new. Default 5 s, as on AWS.
    pub subscription_heartbeat: Duration,
    /// Whether shards refuse what is beyond their rates: 1000 records and 1 MiB a second in, 5 calls and 2 MiB a second out.
    /// Default false.
    pub rate_limits: bool,
    /// How often records that have left retention are removed. They are not read any more before that. Default one minute.
    pub trim_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: true,
            clock: Arc::new(SystemClock),
            shard_count: 5,
            shard_limit: 500,
            iterator_life: Duration::from_secs(300),
            create_duration: Duration::ZERO,
            delete_duration: Duration::ZERO,
            update_duration: Duration::ZERO,
            register_duration: Duration::ZERO,
            subscription_life: Duration::from_secs(300),
            resubscribe_pause: Duration::from_secs(5),
            subscription_heartbeat: Duration::from_secs(5),
            rate_limits: false,
            trim_interval: Duration::from_secs(60),
        }
    }
}

/// Says what time it is, so that tests can let days pass.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now_ms`, milliseconds since 1970.
    pub fn new(now_ms: u64) -> Self {
        Self { now_ms: now_ms.into() }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(by.as_millis() as u64, Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }
}

/// What is open in this process, so that a source, a sink and a gateway of one worker share one Kinesis.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<EmbeddedKinesis>>>> = LazyLock::new(Mutex::default);

impl EmbeddedKinesis {
    /// Opens the Kinesis in `<state_dir>/kinesis`, making it where there is none.
    ///
    /// An error of kind `Config` where another process has it open, or where the folder can't be made.
    pub fn open(state_dir: &Path) -> Result<Arc<Self>> {
        Self::open_with(state_dir, Options::default())
    }

    /// As [`open`](Self::open), with options. Where it is open in this process already, the options of the first one hold.
    pub fn open_with(state_dir: &Path, options: Options) -> Result<Arc<Self>> {
        let dir = state_dir.join("kinesis");
        make_private_folder(&dir)?;
        let dir = fs::canonicalize(&dir).or_error(ErrorKind::Config, format!("open {}", dir.display()))?;
        let mut open = OPEN.lock();
        open.retain(|_, kinesis| kinesis.strong_count() > 0);
        if let Some(kinesis) = open.get(&dir).and_then(Weak::upgrade) {
            return Ok(kinesis);
        }
        let store = Store::open(&dir, options.fsync, Arc::clone(&options.clock), options.trim_interval)?;
        let kinesis = Arc::new(Self {
            tokens: Tokens::new(store.secret()),
            store,
            options,
            rates: Rates::default(),
            subscriptions: Subscriptions::default(),
            faults: Faults::default(),
        });
        open.insert(dir, Arc::downgrade(&kinesis));
        Ok(kinesis)
    }

    /// Faults that tests ask for.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn now_ms(&self) -> u64 {
        self.options.clock.now_ms()
    }
}

/// Streams may hold anything, so the folder is its owner's alone.
fn make_private_folder(dir: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).or_error(ErrorKind::Config, format!("make {}", dir.display()))
}
