//! A proxy between a Kafka client and its broker that loses what it is told to lose.
//!
//! It reads the frames of Kafka's protocol: four bytes of length, then in a request the number of its kind, its version and the
//! number that the answer repeats. Wherever a broker names its own address, the proxy puts its own, so that a client never gets
//! past it.
#![allow(dead_code, reason = "each suite loses only some of it")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The kind of the request that ends a transaction.
pub(crate) const END_TXN: i16 = 26;
/// The kind of the request that asks a broker which groups it coordinates.
pub(crate) const LIST_GROUPS: i16 = 16;
/// The kind of the request that initialises a producer.
const INIT_PRODUCER_ID: i16 = 22;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Requests of the kind arrive, their answers don't, until a producer is initialised.
    LoseAnswers,
    /// Requests of the kind don't arrive, until a producer is initialised.
    LoseRequests,
    /// The connection breaks before the next request of the kind arrives.
    CutBefore,
    /// The connection breaks after it was answered, and the answer is lost.
    CutAfter,
    /// The next request that would commit a transaction aborts it, and the answer says that all is well.
    AbortInstead,
}

#[derive(Debug, Default)]
struct Plan {
    fault: Mutex<Option<(i16, Fault)>>,
    struck: AtomicUsize,
}

/// The proxy. Its connections end with the test.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    port: u16,
    plan: Arc<Plan>,
}

impl FaultProxy {
    /// Stands before the broker at this address.
    pub(crate) async fn start(broker: &str) -> Self {
        let broker: SocketAddr = broker.parse().expect("an address of 127.0.0.1");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let plan = Arc::<Plan>::default();
        let shared = plan.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(upstream) = TcpStream::connect(broker).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_broker, to_broker) = upstream.into_split();
                let asked = Arc::<Mutex<HashMap<i32, i16>>>::default();
                let requests = requests(from_client, to_broker, shared.clone(), asked.clone());
                let answers = answers(from_broker, to_client, shared.clone(), asked, (broker.port(), port));
                // Whichever side ends takes the other with it.
                tokio::spawn(async move {
                    tokio::select! {
                        _ = requests => {}
                        _ = answers => {}
                    }
                });
            }
        });
        Self { port, plan }
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on requests of this kind meet this fault.
    pub(crate) fn fault(&self, kind: i16, fault: Fault) {
        *self.plan.fault.lock() = Some((kind, fault));
    }

    /// How many requests or answers were lost.
    pub(crate) fn struck(&self) -> usize {
        self.plan.struck.load(Ordering::Relaxed)
    }
}

impl Plan {
    /// The fault that a request of this kind meets.
    fn of(&self, kind: i16) -> Option<Fault> {
        let fault = *self.fault.lock();
        fault.filter(|(of, _)| *of == kind).map(|(_, fault)| fault)
    }

    fn strike(&self, for_good: bool) {
        self.struck.fetch_add(1, Ordering::Relaxed);
        if for_good {
            *self.fault.lock() = None;
        }
    }
}

async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_i32().await?).map_err(std::io::Error::other)?;
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn forward(to: &mut OwnedWriteHalf, frame: &[u8]) -> std::io::Result<()> {
    let length = i32::try_from(frame.len()).map_err(std::io::Error::other)?;
    to.write_all(&[&length.to_be_bytes(), frame].concat()).await
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    plan: Arc<Plan>,
    asked: Arc<Mutex<HashMap<i32, i16>>>,
) -> std::io::Result<()> {
    loop {
        let mut request = frame(&mut from).await?;
        let kind = i16::from_be_bytes([request[0], request[1]]);
        let number = i32::from_be_bytes([request[4], request[5], request[6], request[7]]);
        if kind == INIT_PRODUCER_ID {
            *plan.fault.lock() = None;
        }
        match plan.of(kind) {
            Some(Fault::LoseRequests) => {
                plan.strike(false);
                continue;
            }
            Some(Fault::CutBefore) => {
                plan.strike(true);
                return Ok(());
            }
            Some(Fault::AbortInstead) => {
                plan.strike(true);
                // Up to version 2 such a request ends with the byte that says which it is.
                assert!(request[2..4] <= [0, 2][..], "an end of a transaction of a version not known here");
                *request.last_mut().expect("a request holds something") = 0;
            }
            _ => {}
        }
        asked.lock().insert(number, kind);
        forward(&mut to, &request).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    plan: Arc<Plan>,
    asked: Arc<Mutex<HashMap<i32, i16>>>,
    (theirs, ours): (u16, u16),
) -> std::io::Result<()> {
    let (theirs, ours) = (address(theirs), address(ours));
    loop {
        let mut answer = frame(&mut from).await?;
        let number = i32::from_be_bytes([answer[0], answer[1], answer[2], answer[3]]);
        let kind = asked.lock().remove(&number);
        match kind.and_then(|kind| plan.of(kind)) {
            Some(Fault::LoseAnswers) => {
                plan.strike(false);
                continue;
            }
            Some(Fault::CutAfter) => {
                plan.strike(true);
                return Ok(());
            }
            _ => {}
        }
        let mut start = 0;
        while let Some(at) = answer[start..].windows(theirs.len()).position(|window| window == theirs) {
            answer[start + at..start + at + theirs.len()].copy_from_slice(&ours);
            start += at + theirs.len();
        }
        forward(&mut to, &answer).await?;
    }
}

/// An address as answers hold it: the host's name, then the port in four bytes.
fn address(port: u16) -> Vec<u8> {
    [b"127.0.0.1".as_slice(), &u32::from(port).to_be_bytes()].concat()
}
