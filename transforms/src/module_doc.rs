//! A plugin's documentation is the comment at the head of its file: written once, read in the source, in rustdoc and in
//! `ottla plugins describe`.

/// The `//!` comment of a source file of this folder, as a constant.
macro_rules! module_doc {
    ($file:literal) => {{
        const SOURCE: &[u8] = include_bytes!($file);
        const LENGTH: usize = $crate::module_doc::length(SOURCE);
        const TEXT: [u8; LENGTH] = $crate::module_doc::text(SOURCE);
        match core::str::from_utf8(&TEXT) {
            Ok(text) => text,
            Err(_) => panic!("source files are UTF-8"),
        }
    }};
}
pub(crate) use module_doc;

/// Walks over the comment's bytes without the marks at the beginning of each line.
struct Walk<'a> {
    source: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    /// The next byte; 0 at the end.
    const fn next(&mut self) -> u8 {
        let (source, at) = (self.source, self.at);
        if at == 0 || source[at - 1] == b'\n' {
            if !(at + 3 < source.len() && source[at] == b'/' && source[at + 1] == b'/' && source[at + 2] == b'!') {
                return 0;
            }
            self.at += if source[at + 3] == b' ' { 4 } else { 3 };
        }
        self.at += 1;
        source[self.at - 1]
    }
}

pub(crate) const fn length(source: &[u8]) -> usize {
    let mut walk = Walk { source, at: 0 };
    let mut length = 0;
    while walk.next() != 0 {
        length += 1;
    }
    length
}

pub(crate) const fn text<const LENGTH: usize>(source: &[u8]) -> [u8; LENGTH] {
    let mut walk = Walk { source, at: 0 };
    let mut text = [0; LENGTH];
    let mut index = 0;
    while index < LENGTH {
        text[index] = walk.next();
        index += 1;
    }
    text
}
