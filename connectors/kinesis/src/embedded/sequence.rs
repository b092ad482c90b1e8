//! Sequence numbers: 186 bits in decimal, as Kinesis writes them.
//!
//! From the highest bits down: `2`, the shard's epoch (36 bits; on AWS the second in which the shard was made), the lowest
//! four bits of the shard's number, the record's index in the shard (64), eight bits that are zero, the second of arrival
//! (36), the shard's number (32), `2`. The epoch of a child is larger than its parents', so its numbers are, too.

/// A sequence number, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SequenceNumber {
    pub(super) epoch: u64,
    pub(super) shard: u32,
    /// Position in the shard: the first record has 1, and nothing but the shard's own start has 0.
    pub(super) index: u64,
    /// Seconds since 1970. Information only: nothing compares it.
    pub(super) second: u64,
}

/// Both ends of the number: other layouts that Kinesis had in the past begin and end otherwise.
const VERSION: u64 = 2;
const BITS_36: u64 = (1 << 36) - 1;
/// The largest power of ten in a `u64` that leaves the arithmetic below without overflow.
const GROUP: u128 = 1_000_000_000_000_000_000;
const GROUP_DIGITS: usize = 18;

impl SequenceNumber {
    /// Reads a decimal. None where it is not of this layout.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // 2^188 has 57 digits.
        if text.is_empty() || text.len() > 57 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let mut limbs = [0u64; 3];
        for digit in text.bytes() {
            let mut carry = u128::from(digit - b'0');
            for limb in limbs.iter_mut().rev() {
                let value = u128::from(*limb) * 10 + carry;
                *limb = value as u64;
                carry = value >> 64;
            }
        }
        let (high, low) = (limbs[0], u128::from(limbs[1]) << 64 | u128::from(limbs[2]));
        let number = Self {
            epoch: high >> 20 & BITS_36,
            shard: (low >> 4) as u32,
            index: (high & 0xffff) << 48 | (low >> 80) as u64,
            second: (low >> 36) as u64 & BITS_36,
        };
        // What was read must be all there is: versions, the shard's repeated bits, the zero byte.
        (number.limbs() == limbs).then_some(number)
    }

    fn limbs(self) -> [u64; 3] {
        let high = VERSION << 56 | (self.epoch & BITS_36) << 20 | u64::from(self.shard & 0xf) << 16 | self.index >> 48;
        let low = u128::from(self.index & 0xffff_ffff_ffff) << 80
            | u128::from(self.second & BITS_36) << 36
            | u128::from(self.shard) << 4
            | u128::from(VERSION);
        [high, (low >> 64) as u64, low as u64]
    }
}

impl std::fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut limbs = self.limbs();
        let mut groups = [0u64; 4];
        for group in groups.iter_mut().rev() {
            let mut rest = 0u128;
            for limb in &mut limbs {
                let value = rest << 64 | u128::from(*limb);
                *limb = (value / GROUP) as u64;
                rest = value % GROUP;
            }
            *group = rest as u64;
        }
        let first = groups.iter().position(|group| *group != 0).unwrap_or(groups.len() - 1);
        write!(f, "{}", groups[first])?;
        groups[first + 1..].iter().try_for_each(|group| write!(f, "{group:0GROUP_DIGITS$}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_56_digits_and_is_read_back() {
        let number = SequenceNumber { epoch: 1_700_000_000, shard: 3, index: 1, second: 1_700_000_007 };
        let text = number.to_string();
        assert_eq!(text.len(), 56, "{text}");
        assert!(text.starts_with("49"), "{text}");
        assert_eq!(SequenceNumber::parse(&text), Some(number));
    }

    #[test]
    fn numbers_of_an_independent_server_are_understood() {
        // Where the three shards of one stream begin, as kinesalite 3.3.3 has it.
        let numbers = [
            "49680425996215856514109513215306389438967000577102315522",
            "49680425996238157259308043838447925157239648938608295954",
            "49680425996260458004506574461589460875512297300114276386",
        ]
        .map(|text| SequenceNumber::parse(text).map(|number| (number.shard, number.index, number.to_string() == text)));
        assert_eq!(numbers, [Some((0, 0, true)), Some((1, 0, true)), Some((2, 0, true))]);
    }

    #[test]
    fn epoch_then_index_decide_the_order() {
        let number = |epoch, index, second| SequenceNumber { epoch, shard: 7, index, second }.to_string();
        let ascending =
            [number(5, 0, 9), number(5, 1, 3), number(5, u64::MAX, 0), number(6, 0, 0), number(6, 1 << 50, 0)];
        assert!(ascending.windows(2).all(|pair| (pair[0].len(), &pair[0]) < (pair[1].len(), &pair[1])));
    }

    #[test]
    fn other_numbers_are_refused() {
        for text in ["", "0", "x", "-5", "12", &"9".repeat(56), &"9".repeat(57), &"1".repeat(90)] {
            assert_eq!(SequenceNumber::parse(text), None, "{text}");
        }
    }
}
