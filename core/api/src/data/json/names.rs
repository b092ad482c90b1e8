//! Whether an object has two fields of one name, asked at the price of a few instructions a name.

use super::scan::{block, plain_length};

/// Up to so many names are looked up one by one; those of a wider object are sorted in the end.
const FEW: usize = 32;

/// The names of an object's fields so far, as hashes: "no" is certain, "yes" is nearly so.
pub(super) struct Names {
    /// A bit for each of the first names; nearly always it says that a name is new.
    bits: u64,
    few: [u32; FEW],
    count: usize,
    many: Vec<u32>,
}

impl Names {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { bits: 0, few: [0; FEW], count: 0, many: Vec::new() }
    }

    /// Adds a name; true where it was there before. From the 33rd on the answer comes with [`repeat`](Self::repeat).
    #[inline(always)]
    pub(super) fn add(&mut self, hash: u32) -> bool {
        if self.count == FEW {
            self.many.push(hash);
            return false;
        }
        let bit = 1 << (hash & 63);
        let repeats = self.bits & bit != 0 && self.few[..self.count].contains(&hash);
        self.bits |= bit;
        self.few[self.count] = hash;
        self.count += 1;
        repeats
    }

    /// True where a name of a wide object was there before. Sorting keeps an object of a million fields in bounds.
    #[inline(always)]
    pub(super) fn repeat(&mut self) -> bool {
        !self.many.is_empty() && repeat_among_many(self.few, std::mem::take(&mut self.many))
    }
}

#[cold]
fn repeat_among_many(few: [u32; FEW], mut many: Vec<u32>) -> bool {
    many.extend_from_slice(&few);
    many.sort_unstable();
    many.windows(2).any(|pair| pair[0] == pair[1])
}

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Walks over the name that begins at `start`, and says where it ends and its hash. Nothing for a name with escapes, for one
/// that has no end, and for one in the last bytes of the text.
#[inline(always)]
pub(super) fn walk(text: &[u8], start: usize) -> Option<(usize, u32)> {
    let (mut hash, mut at) = (0, start);
    loop {
        let word = u64::from_le_bytes(*block(text, at)?);
        if let Some(length) = plain_length(word) {
            let end = at + length as usize;
            return (text[end] == b'"').then(|| (end, finished(hash, cut(word, length), length)));
        }
        hash = mixed(hash, word);
        at += 8;
    }
}

/// The hash of a name: equal for equal bytes.
pub(super) fn hash(name: &[u8]) -> u32 {
    let (words, last) = name.as_chunks();
    let hash = words.iter().fold(0, |hash, word| mixed(hash, u64::from_le_bytes(*word)));
    let word = last.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    finished(hash, word, last.len() as u32)
}

/// The word without what stands behind the name.
#[inline(always)]
fn cut(word: u64, length: u32) -> u64 {
    word & u64::MAX.checked_shr(64 - 8 * length).unwrap_or(0)
}

#[inline(always)]
fn mixed(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(29) ^ word).wrapping_mul(MIX)
}

/// The length tells names that end in zero bytes apart.
#[inline(always)]
fn finished(hash: u64, last: u64, length: u32) -> u32 {
    (mixed(hash, last ^ u64::from(length) << 56) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(names: &[String]) -> bool {
        let mut found = Names::new();
        let among_few = names.iter().any(|name| found.add(hash(name.as_bytes())));
        among_few || found.repeat()
    }

    #[test]
    fn every_repeat_is_found_and_no_other() {
        for count in [1, 2, 12, 32, 33, 34, 500] {
            for length in [1, 7, 8, 9, 16, 17, 40] {
                let mut names: Vec<String> = (0..count).map(|n| format!("{n:0length$}")).collect();
                if count <= 10usize.pow(length.min(3) as u32) {
                    assert!(!repeats(&names), "{count} names of {length}");
                }
                names.push(names[count / 2].clone());
                assert!(repeats(&names), "{count} names of {length}");
            }
        }
    }

    #[test]
    fn a_name_is_walked_over_to_its_hash() {
        for length in 0..30 {
            let name = &b"abcdefghijklmnopqrstuvwxyz0123"[..length];
            let walked = |before: &str, behind: &str| {
                let text = [before.as_bytes(), name, behind.as_bytes()].concat();
                walk(&text, before.len()).map(|(end, hash)| (end - before.len(), hash))
            };
            let expected = Some((length, hash(name)));
            assert_eq!(walked("{\"", "\":12345678}"), expected);
            assert_eq!(walked("{\"x\":1,\"", "\" : null, \"y\":2}"), expected);
            assert_eq!(walked("", "\\n\":12345678}"), None);
            assert_eq!(walked("", "\u{1}\":12345678}"), None);
            assert_eq!(walked("", ""), None);
        }
    }
}
