//! Calls that wait for an answer: each has a ticket, and is answered once.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ottla_api::boundary::abi::Message;
use ottla_api::boundary::message::Received;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::library::{Library, method_name};

/// How a call ended, and what came with it.
pub(super) type Answer = (i32, Received);

/// So many answered calls are remembered, to say whose a second answer is.
const ANSWERED_MAX: usize = 256;

/// Whose a call is.
#[derive(Clone, Copy)]
struct Of {
    library: &'static Library,
    method: u32,
}

#[derive(Default)]
struct Calls {
    /// By ticket; without a sender those that were given up.
    open: HashMap<u64, (Of, Option<oneshot::Sender<Answer>>)>,
    answered: VecDeque<(u64, Of)>,
}

static CALLS: LazyLock<Mutex<Calls>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A new ticket, and where its answer will come.
pub(super) fn ticket(library: &'static Library, method: u32) -> (u64, oneshot::Receiver<Answer>) {
    let number = NEXT.fetch_add(1, Relaxed);
    let (answer, receiver) = oneshot::channel();
    CALLS.lock().open.insert(number, (Of { library, method }, Some(answer)));
    (number, receiver)
}

/// Nobody waits for this one any more: its answer is let go of when it comes, and until then counted as one that its library holds.
pub(super) fn give_up(ticket: u64) {
    if let Some((of, waiting)) = CALLS.lock().open.get_mut(&ticket)
        && waiting.take().is_some()
    {
        of.library.holds();
    }
}

/// What a library calls to answer.
pub(super) extern "C" fn done(ticket: u64, status: i32, reply: *const Message) {
    // SAFETY: by contract the message may be read until the return, and what it holds is ours to release.
    let answer = (status, unsafe { Received::new(*reply) });
    let mut calls = CALLS.lock();
    let Some((of, waiting)) = calls.open.remove(&ticket) else {
        let of = calls.answered.iter().find(|(answered, _)| *answered == ticket).map(|(_, of)| *of);
        drop(calls);
        thrown_away(ticket, of);
        return;
    };
    if calls.answered.len() == ANSWERED_MAX {
        calls.answered.pop_front();
    }
    calls.answered.push_back((ticket, of));
    drop(calls);
    match waiting {
        // Whoever waited may be gone; then the answer is released here.
        Some(waiting) => drop(waiting.send(answer)),
        None => {
            info!(
                library = of.library.name,
                method = method_name(of.method),
                "a plugin has answered a call that was given up; the answer is thrown away"
            );
            of.library.let_go();
        }
    }
}

/// Says that an answer has no question. A library that answers all twice is not worth a line each.
fn thrown_away(ticket: u64, of: Option<Of>) {
    match of {
        Some(Of { library, method }) => {
            let times = library.thrown_away.fetch_add(1, Relaxed) + 1;
            if times.is_power_of_two() {
                let method = method_name(method);
                warn!(
                    library = library.name,
                    method, times, "a plugin answered a call twice; the answer is thrown away"
                );
            }
        }
        None => {
            static TIMES: AtomicU64 = AtomicU64::new(0);
            let times = TIMES.fetch_add(1, Relaxed) + 1;
            if times.is_power_of_two() {
                warn!(ticket, times, "a plugin answered a call that nobody waits for; the answer is thrown away");
            }
        }
    }
}
