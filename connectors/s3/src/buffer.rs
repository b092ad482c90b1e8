//! The memory that open objects are gathered in: chunks that are never copied to grow, and are used again.
//!
//! A chunk that is full travels on as it is: into a [`Body`], through the HTTP client, as often as a request is repeated. When
//! the last of them lets go of it, it comes back here, emptied. What all chunks of this process take is known at every
//! moment, wherever they are ([`held`]); the sinks go by it when memory gets short.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::client::Body;

/// Capacity of a full-grown chunk. Large enough that a record seldom meets its end, small enough that what stays unused of
/// it does not count.
const CHUNK: usize = 128 * 1024;
/// Capacity of an object's first chunk; each further one is twice as large, up to [`CHUNK`].
const CHUNK_FIRST: usize = 4 * 1024;
/// Empty chunks are kept as long as they and those in use take less than this, all sinks of this process together: new memory
/// costs more than what is written into it.
const KEPT_MAX: usize = 32 * 1024 * 1024;

/// What all chunks of this process take, without the empty ones.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// Empty full-grown chunks.
static SPARE: Mutex<Spare> = Mutex::new(Spare { chunks: Vec::new(), unused: 0 });

/// See [`SPARE`].
struct Spare {
    chunks: Vec<Vec<u8>>,
    /// So many of them were not needed since the last call of [`trim_spare`].
    unused: usize,
}

/// Gives back the empty chunks that nobody has needed since the last call; to be called now and then.
pub(crate) fn trim_spare() {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = spare.chunks.len() - spare.unused.min(spare.chunks.len());
    let given_back = spare.chunks.split_off(kept);
    spare.unused = kept;
    drop(spare);
    drop(given_back);
}

/// How many bytes of memory the open objects and the uploads of this process take, all sinks together.
pub(crate) fn held() -> usize {
    HELD.load(Relaxed)
}

/// Memory that is counted, and that comes back when it is dropped.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// How much was counted.
    counted: usize,
}

impl Chunk {
    /// An empty chunk for at least `capacity` bytes.
    fn new(capacity: usize) -> Self {
        let spare = (capacity == CHUNK).then(|| {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            let chunk = spare.chunks.pop();
            spare.unused = spare.unused.min(spare.chunks.len());
            chunk
        });
        let bytes = spare.flatten().unwrap_or_else(|| Vec::with_capacity(capacity));
        debug_assert!(bytes.is_empty(), "a chunk comes back empty");
        let mut chunk = Self { bytes, counted: 0 };
        chunk.count();
        chunk
    }

    /// Counts what it takes now.
    fn count(&mut self) {
        let capacity = self.bytes.capacity();
        if capacity >= self.counted {
            HELD.fetch_add(capacity - self.counted, Relaxed);
        } else {
            HELD.fetch_sub(self.counted - capacity, Relaxed);
        }
        self.counted = capacity;
    }

    /// The same bytes without memory to spare, where that is worth a copy.
    fn trim(self) -> Self {
        if self.bytes.len() >= self.bytes.capacity() / 2 {
            return self;
        }
        let mut trimmed = Self { bytes: self.bytes.as_slice().to_vec(), counted: 0 };
        trimmed.count();
        trimmed
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        HELD.fetch_sub(self.counted, Relaxed);
        if self.bytes.capacity() == CHUNK {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            if HELD.load(Relaxed) + spare.chunks.len() * CHUNK < KEPT_MAX {
                spare.chunks.push(bytes);
            }
        }
    }
}

/// The bytes of one object that are not on their way yet.
///
/// Writing never goes beyond the end of a part: a part is made of whole chunks, so that it can go without a copy. The
/// chunks end at every multiple of [`quantum`](Self::new), and where the caller has to look whether a part is full.
pub(crate) struct Buffer {
    /// Chunks that are full, oldest first.
    full: Vec<Bytes>,
    full_length: usize,
    /// What `full` takes.
    full_held: usize,
    tail: Chunk,
    /// The tail ends here, whatever its capacity.
    tail_limit: usize,
    /// What the next chunk will take.
    next_capacity: usize,
    /// Every multiple of this is an end of a chunk.
    quantum: usize,
    /// No more than this is held: then a part has to go.
    part_size: usize,
    /// The longest line that was rendered straight into a chunk.
    longest: usize,
}

impl Buffer {
    /// An empty buffer for parts of `part_size`, which can be taken at every multiple of `quantum` before that.
    pub(crate) fn new(part_size: usize, quantum: usize) -> Self {
        Self {
            full: Vec::new(),
            full_length: 0,
            full_held: 0,
            tail: Chunk::default(),
            tail_limit: 0,
            next_capacity: CHUNK_FIRST,
            quantum: quantum.min(part_size).max(1),
            part_size: part_size.max(1),
            longest: 256,
        }
    }

    /// How many bytes it holds.
    pub(crate) fn len(&self) -> usize {
        self.full_length + self.tail.bytes.len()
    }

    /// What it takes in memory.
    pub(crate) fn held(&self) -> usize {
        self.full_held + self.tail.counted
    }

    /// How many bytes the tail still takes.
    fn room(&self) -> usize {
        self.tail_limit - self.tail.bytes.len()
    }

    /// Appends a text and a newline where the tail has room for both. False, and nothing is done, where it has not.
    #[inline]
    pub(crate) fn push_line(&mut self, text: &[u8]) -> bool {
        if self.room() <= text.len() {
            return false;
        }
        self.tail.bytes.extend_from_slice(text);
        self.tail.bytes.push(b'\n');
        true
    }

    /// Has a line rendered straight into the tail where it has room enough for one that is a good deal longer than the
    /// longest so far. False, and nothing is done, where it has not. What was written beyond the tail's end, by a line
    /// still longer than that, is left in `over`, to be appended by [`push`](Self::push) as a line's rest.
    #[inline]
    pub(crate) fn push_rendered(&mut self, over: &mut Vec<u8>, render: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.room() < 2 * self.longest {
            return false;
        }
        let before = self.tail.bytes.len();
        render(&mut self.tail.bytes);
        self.tail.bytes.push(b'\n');
        self.longest = self.longest.max(self.tail.bytes.len() - before);
        if self.tail.bytes.len() > self.tail_limit {
            over.extend_from_slice(&self.tail.bytes[self.tail_limit..]);
            self.tail.bytes.truncate(self.tail_limit);
            self.tail.count();
        }
        true
    }

    /// Appends as much of `bytes` as the tail takes, and says how much that was.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = self.room().min(bytes.len());
        self.tail.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Begins a new tail, for `needed` bytes or more if they fit before the next end. The old one must be full, and the
    /// buffer not: see [`is_full`](Self::is_full). `sure` says that no more than `needed` bytes will come.
    pub(crate) fn grow(&mut self, needed: usize, sure: bool) {
        debug_assert!(self.room() == 0 && !self.is_full());
        self.seal();
        let length = self.full_length;
        let boundary = (self.quantum - length % self.quantum).min(self.part_size - length);
        let wanted = if sure { needed } else { needed.max(self.next_capacity) };
        let capacity = if wanted > CHUNK / 2 { CHUNK } else { wanted };
        self.next_capacity = (capacity * 2).clamp(CHUNK_FIRST, CHUNK);
        self.tail = Chunk::new(capacity.min(boundary.max(1)));
        self.tail_limit = boundary.min(self.tail.bytes.capacity());
    }

    /// True where a whole part is held and has to go before more is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.part_size
    }

    /// How many bytes could go as a part without the end of the object.
    pub(crate) fn splittable(&self) -> usize {
        // The last part of an object is never empty.
        self.len().saturating_sub(1) / self.quantum * self.quantum
    }

    /// Takes the first `length` bytes, which end where a chunk ends. The answer also says what they take in memory.
    pub(crate) fn take(&mut self, length: usize) -> (Body, usize) {
        if length > self.full_length {
            self.seal();
        }
        let mut taken = 0;
        let pieces = self.full.iter().take_while(|piece| {
            let more = taken < length;
            if more {
                taken += piece.len();
            }
            more
        });
        let count = pieces.count();
        assert_eq!(taken, length, "a part ends where a chunk ends");
        let pieces: Vec<Bytes> = self.full.drain(..count).collect();
        self.full_length -= taken;
        // Sealed chunks of an object in parts are full but for the slack at a quantum's end.
        let held = if self.full.is_empty() { self.full_held } else { taken.min(self.full_held) };
        self.full_held -= held;
        (Body::new(pieces), held)
    }

    /// Everything that is left, and what it takes in memory.
    pub(crate) fn finish(mut self) -> (Body, usize) {
        self.tail = std::mem::take(&mut self.tail).trim();
        self.seal();
        (Body::new(std::mem::take(&mut self.full)), self.full_held)
    }

    /// Moves the tail to the full chunks.
    fn seal(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        self.tail_limit = 0;
        if !tail.bytes.is_empty() {
            self.full_length += tail.bytes.len();
            self.full_held += tail.counted;
            self.full.push(Bytes::from_owner(tail));
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes in {} of memory)", self.len(), self.held())
    }
}

#[cfg(test)]
mod tests {
    use ottla_testkit::fault::Random;

    use super::*;

    /// What an object must be made of, and what it was made of so far.
    struct Object {
        buffer: Buffer,
        part_size: usize,
        quantum: usize,
        expected: Vec<u8>,
        parts: Vec<Body>,
    }

    impl Object {
        fn new(random: &mut Random) -> Self {
            let part_size = [1, 7, 1000, CHUNK, CHUNK + 1, 3 * CHUNK, 500_000][random.below(7) as usize];
            let quantum = [1, part_size, 64, 100_000, CHUNK][random.below(5) as usize].min(part_size);
            let buffer = Buffer::new(part_size, quantum);
            Self { buffer, part_size, quantum, expected: Vec::new(), parts: Vec::new() }
        }

        /// Appends as the writer does, sending parts ahead by chance.
        fn append(&mut self, text: &[u8], random: &mut Random) {
            let mut rest = text;
            loop {
                rest = &rest[self.buffer.push(rest)..];
                if rest.is_empty() {
                    return;
                }
                let whole = self.buffer.len() / self.quantum * self.quantum;
                if self.buffer.is_full() {
                    self.take(self.part_size);
                } else if whole > 0 && random.below(4) == 0 {
                    self.take(whole);
                }
                self.buffer.grow(rest.len(), random.below(20) == 0);
            }
        }

        fn line(&mut self, text: &[u8], rendered: bool, random: &mut Random) {
            self.expected.extend_from_slice(text);
            self.expected.push(b'\n');
            let mut over = Vec::new();
            let pushed = if rendered {
                self.buffer.push_rendered(&mut over, |out| out.extend_from_slice(text))
            } else {
                self.buffer.push_line(text)
            };
            if !pushed {
                over = [text, b"\n"].concat();
            }
            self.append(&over, random);
            let splittable = self.buffer.splittable();
            if splittable > 0 && random.below(10) == 0 {
                self.take(splittable);
            }
        }

        fn take(&mut self, length: usize) {
            let before = self.buffer.held();
            let (body, held) = self.buffer.take(length);
            assert_eq!((body.len(), self.buffer.held() + held), (length as u64, before));
            self.parts.push(body);
        }
    }

    #[test]
    fn recycled_chunks_carry_nothing_from_one_object_into_another() {
        let seed = std::env::var("OTTLA_SEED").ok().map_or_else(rand_seed, |seed| seed.parse().expect("a number"));
        eprintln!("OTTLA_SEED={seed}");
        let mut random = Random::new(seed);
        let mut open: Vec<Object> = (0..4).map(|_| Object::new(&mut random)).collect();
        let mut uploading: Vec<(Vec<u8>, Vec<Body>)> = Vec::new();
        for n in 0..4000_u64 {
            let index = random.below(open.len() as u64) as usize;
            let longest = [3, 80, 700, 5000, 300_000][random.below(if n % 50 == 0 { 5 } else { 4 }) as usize];
            let text = vec![b'a' + (n % 26) as u8; random.below(longest) as usize];
            let rendered = random.below(2) == 0;
            open[index].line(&text, rendered, &mut random);
            if random.below(30) == 0 {
                let object = std::mem::replace(&mut open[index], Object::new(&mut random));
                let held = object.buffer.held();
                let Object { buffer, expected, mut parts, part_size, quantum } = object;
                for part in &parts {
                    let whole = part.len() % quantum as u64 == 0 || part.len() == part_size as u64;
                    assert!(whole, "a part of {} bytes, of {part_size} or multiples of {quantum}", part.len());
                }
                let (rest, held_at_end) = buffer.finish();
                assert!(held_at_end <= held && !rest.is_empty() && rest.len() <= part_size as u64);
                parts.push(rest);
                uploading.push((expected, parts));
            }
            // An upload ends some time; until then it holds what was written, whatever was written meanwhile.
            if uploading.len() > 8 {
                let (expected, parts) = uploading.swap_remove(random.below(uploading.len() as u64) as usize);
                let stored: Vec<u8> = parts.iter().flat_map(|part| part.to_bytes()).collect();
                assert!(stored == expected, "an object of {} bytes differs", expected.len());
            }
            if random.below(100) == 0 {
                trim_spare();
            }
        }
    }

    fn rand_seed() -> u64 {
        uuid::Uuid::new_v4().as_u64_pair().0
    }
}
