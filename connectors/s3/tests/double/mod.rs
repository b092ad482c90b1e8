//! A store in memory that fails on purpose: for the conformance suite call by call, for the simulation by chance.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_api::prelude::*;
use ottla_connector_s3::client::{Body, Chunk, MultipartUpload, NewObject, ObjectStore, Outcome};
use ottla_testkit::fault::{Fault, Random};

/// How a store behaves.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// Longest pause before a request takes effect, and the longest before its answer arrives.
    pub(crate) latency_max: Duration,
    /// One request in so many fails without effect; 0 for none.
    pub(crate) failed_one_in: u64,
    /// One answer in so many gets lost after the request took effect; 0 for none.
    pub(crate) lost_one_in: u64,
    /// True where a repeated request recognizes the object of the first one.
    pub(crate) metadata: bool,
    /// The planted bug: objects are overwritten.
    pub(crate) overwrite: bool,
}

impl Manners {
    pub(crate) fn good() -> Self {
        Self { latency_max: Duration::ZERO, failed_one_in: 0, lost_one_in: 0, metadata: true, overwrite: false }
    }
}

/// One connection to a store in memory. Clones are other connections to the same store.
#[derive(Clone)]
pub(crate) struct Double {
    state: Arc<Mutex<State>>,
    fault: Fault,
}

struct State {
    objects: BTreeMap<String, Object>,
    manners: Manners,
    random: Random,
}

struct Object {
    bytes: Bytes,
    attempt: String,
}

impl Double {
    pub(crate) fn new(manners: Manners, seed: u64) -> Self {
        let state = State { objects: BTreeMap::new(), manners, random: Random::new(seed) };
        Self { state: Arc::new(Mutex::new(state)), fault: Fault::never() }
    }

    /// A connection that fails where the fault says so.
    #[allow(dead_code)] // Each test has the whole double, and uses its part.
    pub(crate) fn with_fault(&self, fault: Fault) -> Self {
        Self { state: self.state.clone(), fault }
    }

    /// What the store holds.
    pub(crate) fn objects(&self) -> BTreeMap<String, Bytes> {
        self.state().objects.iter().map(|(key, object)| (key.clone(), object.bytes.clone())).collect()
    }

    /// From now on the store behaves like this.
    #[allow(dead_code)]
    pub(crate) fn set_manners(&self, manners: Manners) {
        self.state().manners = manners;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    /// Lets time pass, and fails now and then.
    async fn hazard(&self, place: &str, one_in: impl Fn(&Manners) -> u64) -> Result<()> {
        let (pause, fails) = {
            let mut state = self.state();
            let latency_max = u64::try_from(state.manners.latency_max.as_micros()).expect("a short time");
            let pause = if latency_max == 0 { 0 } else { state.random.below(latency_max) };
            let one_in = one_in(&state.manners);
            (Duration::from_micros(pause), one_in > 0 && state.random.below(one_in) == 0)
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.fault.point(place)?;
        if fails { Err(Error::retriable("the simulated store has failed").with("place", place)) } else { Ok(()) }
    }

    async fn before(&self, place: &str) -> Result<()> {
        self.hazard(place, |manners| manners.failed_one_in).await
    }

    async fn after(&self, place: &str) -> Result<()> {
        self.hazard(place, |manners| manners.lost_one_in).await
    }

    fn apply(&self, object: &NewObject, bytes: Bytes) -> Outcome {
        let mut state = self.state();
        let (metadata, overwrite) = (state.manners.metadata, state.manners.overwrite);
        match state.objects.get(&object.key) {
            Some(found) if !overwrite => {
                if metadata && found.attempt == object.attempt {
                    Outcome::Created
                } else {
                    Outcome::Contested
                }
            }
            _ => {
                state.objects.insert(object.key.clone(), Object { bytes, attempt: object.attempt.clone() });
                Outcome::Created
            }
        }
    }
}

#[async_trait]
impl ObjectStore for Double {
    async fn create(&self, object: &NewObject, body: Body) -> Result<Outcome> {
        self.before("before create").await?;
        let outcome = self.apply(object, body.to_bytes());
        self.after("after create").await?;
        Ok(outcome)
    }

    fn create_in_parts(&self, object: &NewObject) -> Box<dyn MultipartUpload> {
        Box::new(Parts { store: self.clone(), object: object.clone(), parts: Vec::new() })
    }

    async fn read(&self, key: &str, from: u64, length: u64) -> Result<Option<Chunk>> {
        self.before("before read").await?;
        let chunk = self.state().objects.get(key).map(|object| {
            let place = |n: u64| usize::try_from(n).expect("small").min(object.bytes.len());
            let bytes = object.bytes.slice(place(from)..place(from + length));
            Chunk { bytes, total: object.bytes.len() as u64 }
        });
        self.after("after read").await?;
        Ok(chunk)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.before("before delete").await?;
        self.state().objects.remove(key);
        Ok(())
    }

    fn location(&self, key: &str) -> String {
        format!("double:{key}")
    }
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Double")
    }
}

/// An upload in parts. A part whose answer was lost comes again and takes the same place.
struct Parts {
    store: Double,
    object: NewObject,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Parts {
    async fn part(&mut self, body: Body) -> Result<Outcome> {
        self.store.before("before part").await?;
        self.store.after("after part").await?;
        self.parts.push(body.to_bytes());
        Ok(Outcome::Created)
    }

    async fn finish(&mut self, rest: Body) -> Result<Outcome> {
        self.store.before("before complete").await?;
        assert!(!rest.is_empty(), "the last part is never empty");
        let outcome =
            self.store.apply(&self.object, [self.parts.concat().as_slice(), &rest.to_bytes()].concat().into());
        self.store.after("after complete").await?;
        Ok(outcome)
    }

    async fn abort(&mut self) {
        let _ = self.store.before("before abort").await;
        self.parts.clear();
    }
}
