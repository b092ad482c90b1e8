//! Calls that wait for an answer: each has a ticket, and is answered once.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ottla_api::boundary::abi::Message;
use ottla_api::boundary::message::Received;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::warn;

/// How a call ended, and what came with it.
pub(super) type Answer = (i32, Received);

/// The calls that wait, by ticket.
static WAITING: LazyLock<Mutex<HashMap<u64, oneshot::Sender<Answer>>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A new ticket, and where its answer will come.
pub(super) fn ticket() -> (u64, oneshot::Receiver<Answer>) {
    let number = NEXT.fetch_add(1, Relaxed);
    let (answer, receiver) = oneshot::channel();
    WAITING.lock().insert(number, answer);
    (number, receiver)
}

/// Nobody waits for this one any more. Its answer is let go of when it comes.
pub(super) fn give_up(ticket: u64) {
    WAITING.lock().remove(&ticket);
}

/// What a library calls to answer.
pub(super) extern "C" fn done(ticket: u64, status: i32, reply: *const Message) {
    // SAFETY: by contract the message may be read until the return, and what it holds is ours to release.
    let answer = (status, unsafe { Received::new(*reply) });
    let waiting = WAITING.lock().remove(&ticket);
    match waiting {
        // Whoever waited may be gone; then the answer is released here.
        Some(waiting) => drop(waiting.send(answer)),
        None if ticket >= NEXT.load(Relaxed) || ticket == 0 => {
            warn!(ticket, "a plugin answered a call that was never made; the answer is thrown away");
        }
        None => warn!(ticket, "a plugin answered a call twice, or after it was given up; the answer is thrown away"),
    }
}
