//! Python's `random.Random`, draw for draw: seeding by an integer, `randrange(0, n)` and `randint(0, n)`.
//!
//! The emulation repeats what a Python script drew, so the numbers must be the same ones. That takes three things: the
//! Mersenne Twister (MT19937), the seeding by all 32-bit words of the integer, and how a bounded number is made from bits:
//! as many bits as the bound has, again and again until they are below it.

use std::fmt;

use ottla_api::config::ConfigValue;

const LENGTH: usize = 624;
const PERIOD: usize = 397;

/// A generator that yields what Python's does after `random.seed(seed)`.
#[derive(Clone)]
pub(crate) struct PythonRandom {
    state: [u32; LENGTH],
    index: usize,
}

impl PythonRandom {
    /// As `random.seed(seed)`.
    pub(crate) fn new(seed: &Seed) -> Self {
        Self::by_array(&seed.words)
    }

    /// The reference `init_genrand`.
    fn by_number(seed: u32) -> Self {
        let mut state = [0; LENGTH];
        state[0] = seed;
        for index in 1..LENGTH {
            let previous: u32 = state[index - 1];
            state[index] = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index as u32);
        }
        Self { state, index: LENGTH }
    }

    /// The reference `init_by_array`.
    fn by_array(key: &[u32]) -> Self {
        let mut random = Self::by_number(19_650_218);
        let state = &mut random.state;
        let (mut i, mut j) = (1, 0);
        for _ in 0..LENGTH.max(key.len()) {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i == LENGTH {
                state[0] = state[LENGTH - 1];
                i = 1;
            }
        }
        for _ in 1..LENGTH {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ mixed).wrapping_sub(i as u32);
            i += 1;
            if i == LENGTH {
                state[0] = state[LENGTH - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        random
    }

    /// The next 32 bits.
    fn next(&mut self) -> u32 {
        if self.index == LENGTH {
            for i in 0..LENGTH {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % LENGTH] & 0x7fff_ffff);
                let twist = if y & 1 == 0 { 0 } else { 0x9908_b0df };
                self.state[i] = self.state[(i + PERIOD) % LENGTH] ^ (y >> 1) ^ twist;
            }
            self.index = 0;
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// As `random.getrandbits(bits)`, for up to 64 bits: the words come lowest first, the last one cut from above.
    fn bits(&mut self, bits: u32) -> u64 {
        debug_assert!((1..=64).contains(&bits));
        let low = u64::from(self.next() >> 32u32.saturating_sub(bits));
        if bits <= 32 { low } else { low | u64::from(self.next() >> (64 - bits)) << 32 }
    }

    /// As `random.randrange(0, bound)`, which is one of 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0);
        // Python takes the bits of the bound itself, not of the largest result: randrange(0, 2) draws two bits.
        let bits = u64::BITS - bound.leading_zeros();
        loop {
            let drawn = self.bits(bits);
            if drawn < bound {
                return drawn;
            }
        }
    }
}

impl fmt::Debug for PythonRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PythonRandom")
    }
}

/// A whole number of any size, as `random.seed` takes it. The sign doesn't matter, as in Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seed {
    /// 32-bit words, lowest first; at least one.
    words: Vec<u32>,
    /// Decimal digits without sign and leading zeros.
    digits: String,
}

impl Seed {
    /// The decimal digits: the same for every way of writing one seed.
    pub(crate) fn digits(&self) -> &str {
        &self.digits
    }
}

impl ConfigValue for Seed {
    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.trim().trim_start_matches(['-', '+']).trim_start_matches('0');
        if text.trim().trim_start_matches(['-', '+']).is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit())
        {
            return Err(format!("must be a whole number, found '{text}'"));
        }
        let mut words = vec![0u32];
        for digit in digits.bytes() {
            let mut carry = u64::from(digit - b'0');
            for word in &mut words {
                let product = u64::from(*word) * 10 + carry;
                *word = product as u32;
                carry = product >> 32;
            }
            if carry > 0 {
                words.push(carry as u32);
            }
        }
        let digits = if digits.is_empty() { "0" } else { digits };
        Ok(Self { words, digits: digits.to_owned() })
    }

    fn type_name() -> std::borrow::Cow<'static, str> {
        "int".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(seed: &str) -> PythonRandom {
        PythonRandom::new(&Seed::parse(seed).unwrap())
    }

    /// The original's two calls per round.
    fn rounds(seed: &str, count: usize) -> Vec<(u64, u64)> {
        let mut random = seeded(seed);
        (0..count).map(|_| (random.below(2), random.below(11_001))).collect()
    }

    #[test]
    fn seed_100_draws_the_known_rows() {
        let draws: Vec<u64> = rounds("100", 12).into_iter().map(|(_, draw)| draw).collect();
        assert_eq!(draws, [7528, 2863, 5730, 8304, 8731, 1313, 4315, 10794, 5494, 5069, 2923, 3089]);
    }

    #[test]
    fn the_generator_is_the_reference_one() {
        // The first outputs of the reference implementation for the key {0x123, 0x234, 0x345, 0x456}.
        let mut random = PythonRandom::by_array(&[0x123, 0x234, 0x345, 0x456]);
        let first: Vec<u32> = (0..5).map(|_| random.next()).collect();
        assert_eq!(first, [1_067_595_299, 955_945_823, 477_289_528, 4_107_218_783, 4_228_976_476]);
    }

    #[test]
    fn other_seeds_and_bounds_draw_what_python_draws() {
        // From CPython 3.11: random.seed(seed); then random.randrange(0, 2), random.randint(0, max) again and again.
        for (seed, max, expected) in [
            ("0", 11000_u64, [(1, 6890), (0, 4242), (1, 6634), (1, 7808)]),
            ("1", 0_u64, [(0, 0), (1, 0), (1, 0), (1, 0)]),
            ("-7", 3_u64, [(1, 1), (1, 0), (0, 0), (1, 0)]),
            ("4294967296", 11000_u64, [(0, 5755), (1, 273), (0, 10022), (1, 8939)]),
            ("18446744073709563961", 999_u64, [(0, 561), (1, 978), (1, 38), (1, 666)]),
            (
                "123456789012345678901234567890",
                1099511627776_u64,
                [(0, 248742600527), (0, 577099011477), (0, 454005648232), (0, 220382018422)],
            ),
            ("42", 4294967295_u64, [(0, 1181241943), (0, 2342331444), (1, 136505587), (0, 939042955)]),
            ("42", 4294967296_u64, [(0, 1181241943), (0, 2342331444), (1, 136505587), (0, 939042955)]),
        ] {
            let mut random = seeded(seed);
            for pair in expected {
                assert_eq!((random.below(2), random.below(max + 1)), pair, "seed {seed}, max {max}");
            }
        }
    }

    #[test]
    fn one_seed_has_one_name() {
        for text in ["100", "-100", "+100", " 00100 "] {
            assert_eq!(Seed::parse(text).unwrap().digits(), "100");
        }
        assert_eq!(Seed::parse("-0").unwrap().digits(), "0");
        assert_eq!(Seed::parse("1e3").unwrap_err(), "must be a whole number, found '1e3'");
        assert!(Seed::parse("-").is_err());
    }

    #[test]
    fn all_recorded_draws_of_seed_100() {
        let Ok(folder) = std::env::var("OTTLA_SHARED_DATA") else {
            eprintln!("skipped: OTTLA_SHARED_DATA is unset");
            return;
        };
        let text = std::fs::read(format!("{folder}/seed100_draws.json")).unwrap();
        let recorded = ottla_api::data::json::parse(&text).unwrap();
        let Some(ottla_api::data::Value::Array(rows)) = recorded.field("rows") else { panic!("no rows in the file") };
        let rows: Vec<u64> = rows.iter().map(|row| row.as_i64().unwrap() as u64).collect();
        let drawn: Vec<u64> = rounds("100", rows.len()).into_iter().map(|(_, draw)| draw).collect();
        assert!(rows.len() >= 1234);
        assert_eq!(drawn, rows);
    }
}
