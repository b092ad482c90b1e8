//! Steps over JSON text that the walks share, eight and sixteen bytes at a time.
//!
//! Written so that the compiler makes vector instructions of it on every processor, without a line of unsafe code: a block
//! is compared to what is looked for byte by byte into a mask, and the mask is read as a number.

/// How long a string runs on from `at` without anything special: the place of the next quote, backslash or control
/// character, or the end of the text.
#[inline(always)]
pub(super) fn plain_end(text: &[u8], mut at: usize) -> usize {
    while let Some(block) = block::<16>(text, at) {
        let mut marks = [0u8; 16];
        for (mark, byte) in marks.iter_mut().zip(block) {
            *mark = 0u8.wrapping_sub(u8::from(is_special(*byte)));
        }
        let marks = u128::from_le_bytes(marks);
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 16;
    }
    while at < text.len() && !is_special(text[at]) {
        at += 1;
    }
    at
}

/// True for UTF-8 text. Little text is mostly ASCII, and then that is seen before the better check has begun.
#[inline(always)]
pub(super) fn is_utf8(text: &[u8]) -> bool {
    (text.len() <= 128 && text.is_ascii()) || simdutf8::basic::from_utf8(text).is_ok()
}

/// As [`plain_end`], for what is likely short: the length of what is plain at the beginning of a word of eight bytes, first
/// byte lowest; nothing where all of it is.
#[inline(always)]
pub(super) fn plain_length(word: u64) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // What is subtracted from a byte borrows from the next one only where this byte is marked itself.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let (quotes, backslashes) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
    let marks = (below(quotes, 1) | below(backslashes, 1) | below(word, 0x20)) & HIGH;
    (marks != 0).then(|| marks.trailing_zeros() / 8)
}

/// True for what can't stand in a string as it is. Without branches, so that sixteen can be asked at once.
#[inline(always)]
fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// Where the digits end that begin at `at`.
#[inline(always)]
pub(super) fn digits_end(text: &[u8], mut at: usize) -> usize {
    while let Some(block) = block::<8>(text, at) {
        // A digit has become 0 to 9, to which 0x76 can be added without reaching the highest bit. What is carried into the
        // next byte comes from one that is marked already.
        let digits = u64::from_le_bytes(*block) ^ 0x3030_3030_3030_3030;
        let marks = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// The `N` bytes from `at` on, where there are so many.
#[inline(always)]
pub(super) fn block<const N: usize>(text: &[u8], at: usize) -> Option<&[u8; N]> {
    text.get(at..)?.first_chunk()
}

/// Walks over an escape that begins at `at`, or over anything else there, which is none: where it ends, and whether
/// [`write_text`](super::write_text) would write it so. Nothing where it is wrong.
pub(super) fn escape(text: &[u8], at: usize) -> Option<(usize, bool)> {
    let [b'\\', code] = *block::<2>(text, at)? else { return None };
    match code {
        b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => Some((at + 2, true)),
        b'/' => Some((at + 2, false)),
        b'u' => match unit(text, at + 2)? {
            0xd800..0xdc00 if block(text, at + 6)? == b"\\u" => {
                (0xdc00..0xe000).contains(&unit(text, at + 8)?).then_some((at + 12, false))
            }
            0xd800..0xe000 => None,
            0x08 | 0x09 | 0x0a | 0x0c | 0x0d | 0x20.. => Some((at + 6, false)),
            _ => Some((at + 6, !text[at + 2..at + 6].iter().any(u8::is_ascii_lowercase))),
        },
        _ => None,
    }
}

/// Reads four hexadecimal digits.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    block::<4>(text, at)?.iter().try_fold(0, |unit, digit| Some(unit * 16 + (*digit as char).to_digit(16)?))
}

/// The text that a string's inside stands for, which was walked over before.
pub(super) fn unescape(inside: &str) -> String {
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.as_bytes()[at + 1];
        let unit = |at| unit(rest.as_bytes(), at).expect("four digits, as was checked");
        let (letter, length) = match code {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => {
                let (point, length) = match unit(at + 2) {
                    high @ 0xd800..0xdc00 => (0x10000 + ((high - 0xd800) << 10) + (unit(at + 8) - 0xdc00), 12),
                    point => (point, 6),
                };
                (char::from_u32(point).expect("surrogates in pairs, as was checked"), length)
            }
            literal => (literal as char, 2),
        };
        text.push(letter);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    text
}

/// White space as JSON has it.
#[inline(always)]
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_find_what_single_bytes_find() {
        // Every byte at every place of a block and of what remains behind the blocks, behind other letters and behind digits.
        for length in 0..40 {
            for place in 0..length {
                for byte in 0..=255 {
                    let mut text = vec![b'x'; length];
                    text[place] = byte;
                    let single = if is_special(byte) { place } else { length };
                    assert_eq!(plain_end(&text, 0), single, "{byte:#x} at {place} of {length}");
                    if let Some(block) = block::<8>(&text, 0) {
                        let plain = (single < 8).then_some(single as u32);
                        assert_eq!(plain_length(u64::from_le_bytes(*block)), plain, "{byte:#x} at {place} of {length}");
                    }
                    let mut text = vec![b'7'; length];
                    text[place] = byte;
                    let single = if byte.is_ascii_digit() { length } else { place };
                    assert_eq!(digits_end(&text, 0), single, "{byte:#x} at {place} of {length}");
                }
            }
        }
    }
}
