//! Whether an object has two fields of one name, asked at the price of a few instructions a name.

use super::scan::block;

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

/// The hash of the name that lies in `text` between two places: equal for equal bytes.
#[inline(always)]
pub(super) fn hash(text: &[u8], start: usize, end: usize) -> u32 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let length = end - start;
    let mut hash = (length as u64).wrapping_mul(MIX);
    let mut at = start;
    while end - at > 8 {
        if let Some(block) = block::<8>(text, at) {
            hash = (hash.rotate_left(29) ^ u64::from_le_bytes(*block)).wrapping_mul(MIX);
        }
        at += 8;
    }
    let last = match block::<8>(text, at) {
        // What stands behind the name is cut off.
        Some(block) => u64::from_le_bytes(*block) & u64::MAX.checked_shr(64 - 8 * (end - at) as u32).unwrap_or(0),
        None => text[at..end].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    ((hash.rotate_left(29) ^ last).wrapping_mul(MIX) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(names: &[String]) -> bool {
        let mut found = Names::new();
        let among_few = names.iter().any(|name| found.add(hash(name.as_bytes(), 0, name.len())));
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
    fn a_hash_depends_on_the_name_alone() {
        for length in 0..30 {
            let name = &b"abcdefghijklmnopqrstuvwxyz0123"[..length];
            let alone = hash(name, 0, length);
            for (before, behind) in [("{", "\":1}"), ("{\"x\":1,\"", "\" : null, \"y\":2}"), ("", "\"")] {
                let text = [before.as_bytes(), name, behind.as_bytes()].concat();
                assert_eq!(hash(&text, before.len(), before.len() + length), alone);
            }
        }
    }
}
