//! The note: what a library was built for and what it holds, readable without running any of its code.
//!
//! ```text
//! "OTTLAPLG"            8 bytes
//! length                u32: of the whole note
//! ABI major, minor      u16 each
//! sizes                 u32 each: Descriptor, Message, RecordView, Host
//! panics                u8: 1 where they unwind, 0 where they abort
//! target, compiler, SDK version, library, its version     texts
//! number of plugins     u32; each: kind u8, name, version, documentation as texts
//! ```
//!
//! Numbers are little-endian; a text is its length as u32 and UTF-8. It is made by constant evaluation.

use crate::{ABI_MAJOR, ABI_MINOR, Descriptor, Host, Message, RUSTC, RecordView, TARGET};

/// How a note begins.
pub const MAGIC: [u8; 8] = *b"OTTLAPLG";

/// The sizes that both sides must agree on, in the order of the note.
pub const SIZES: [u32; 4] = [
    size_of::<Descriptor>() as u32,
    size_of::<Message>() as u32,
    size_of::<RecordView>() as u32,
    size_of::<Host>() as u32,
];

/// What is written of a plugin.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its kind: 0 source, 1 sink, 2 transformation, 3 predicate, 4 converter, 5 config provider.
    pub kind: u8,
    /// Its native name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What it does.
    pub doc: &'a str,
}

/// What is written of a library.
#[derive(Debug, Clone, Copy)]
pub struct Library<'a> {
    /// True where a panic unwinds.
    pub unwinds: bool,
    /// Version of the crate that the library is built with.
    pub sdk: &'a str,
    /// Name of the library's crate.
    pub name: &'a str,
    /// Version of the library's crate.
    pub version: &'a str,
}

/// Writes into a constant, or only counts.
struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    const fn byte(&mut self, byte: u8) {
        if self.at < N {
            self.bytes[self.at] = byte;
        }
        self.at += 1;
    }

    const fn bytes(&mut self, bytes: &[u8]) {
        let mut index = 0;
        while index < bytes.len() {
            self.byte(bytes[index]);
            index += 1;
        }
    }

    const fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u32).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    const fn library(&mut self, length: usize, library: Library<'_>, plugins: usize) {
        self.bytes(&MAGIC);
        self.bytes(&(length as u32).to_le_bytes());
        self.bytes(&ABI_MAJOR.to_le_bytes());
        self.bytes(&ABI_MINOR.to_le_bytes());
        let mut index = 0;
        while index < SIZES.len() {
            self.bytes(&SIZES[index].to_le_bytes());
            index += 1;
        }
        self.byte(library.unwinds as u8);
        self.text(TARGET);
        self.text(RUSTC);
        self.text(library.sdk);
        self.text(library.name);
        self.text(library.version);
        self.bytes(&(plugins as u32).to_le_bytes());
    }

    const fn entry(&mut self, entry: Entry<'_>) {
        self.byte(entry.kind);
        self.text(entry.name);
        self.text(entry.version);
        self.text(entry.doc);
    }
}

/// How long the note of this library is.
pub const fn length(library: Library<'_>, plugins: &[Entry<'_>]) -> usize {
    let mut writer = Writer::<0> { bytes: [], at: 0 };
    writer.library(0, library, plugins.len());
    let mut index = 0;
    while index < plugins.len() {
        writer.entry(plugins[index]);
        index += 1;
    }
    writer.at
}

/// The note of this library; `N` is its [`length`].
pub const fn write<const N: usize>(library: Library<'_>, plugins: &[Entry<'_>]) -> [u8; N] {
    let mut writer = Writer { bytes: [0; N], at: 0 };
    writer.library(N, library, plugins.len());
    let mut index = 0;
    while index < plugins.len() {
        writer.entry(plugins[index]);
        index += 1;
    }
    assert!(writer.at == N, "the length is that of another note");
    writer.bytes
}

/// A note that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Version of the contract.
    pub abi: (u16, u16),
    /// Sizes of the structures, in the order of [`SIZES`].
    pub sizes: [u32; 4],
    /// True where a panic unwinds.
    pub unwinds: bool,
    /// The target.
    pub target: String,
    /// The compiler.
    pub rustc: String,
    /// Version of the crate that the library is built with.
    pub sdk: String,
    /// Name of the library.
    pub name: String,
    /// Version of the library.
    pub version: String,
    /// Its plugins: kind, name, version, documentation.
    pub plugins: Vec<(u8, String, String, String)>,
}

/// Reads a note. What follows it in the section (padding) is not looked at.
///
/// # Errors
///
/// A phrase that says what is wrong: no note, one that ends early, one that is not text where text should be. Of a note for another major
/// version only as much is needed as all versions have: magic, length, version.
pub fn read(bytes: &[u8]) -> Result<Note, &'static str> {
    let mut reader = Reader(bytes);
    if reader.take(8)? != MAGIC {
        return Err("it does not begin as a note does");
    }
    let length = reader.u32()? as usize;
    if length > bytes.len() || length < 16 {
        return Err("it is cut off");
    }
    let mut reader = Reader(&bytes[12..length]);
    let abi = (reader.u16()?, reader.u16()?);
    let mut note = Note {
        abi,
        sizes: [0; 4],
        unwinds: true,
        target: String::new(),
        rustc: String::new(),
        sdk: String::new(),
        name: String::new(),
        version: String::new(),
        plugins: Vec::new(),
    };
    if abi.0 != ABI_MAJOR {
        return Ok(note);
    }
    for size in &mut note.sizes {
        *size = reader.u32()?;
    }
    note.unwinds = reader.take(1)?[0] != 0;
    for text in [&mut note.target, &mut note.rustc, &mut note.sdk, &mut note.name, &mut note.version] {
        *text = reader.text()?;
    }
    for _ in 0..reader.u32()? {
        let kind = reader.take(1)?[0];
        note.plugins.push((kind, reader.text()?, reader.text()?, reader.text()?));
    }
    Ok(note)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().unwrap_or_default()))
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default()))
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "it holds a text that is not UTF-8")?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: Library<'static> = Library { unwinds: true, sdk: "0.1.0", name: "mine", version: "3.2.1" };
    const PLUGINS: &[Entry<'static>] = &[
        Entry { kind: 1, name: "my-sink", version: "1", doc: "Writes." },
        Entry { kind: 2, name: "my-rule", version: "2", doc: "" },
    ];
    static NOTE: [u8; length(LIBRARY, PLUGINS)] = write(LIBRARY, PLUGINS);

    #[test]
    fn what_is_written_is_read() {
        let mut padded = NOTE.to_vec();
        padded.extend([0; 7]);
        let note = read(&padded).unwrap();
        assert_eq!((note.abi, note.sizes, note.unwinds), ((ABI_MAJOR, ABI_MINOR), SIZES, true));
        assert_eq!((&*note.target, &*note.rustc, &*note.name, &*note.version), (TARGET, RUSTC, "mine", "3.2.1"));
        let names: Vec<_> = note.plugins.iter().map(|(kind, name, ..)| (*kind, name.as_str())).collect();
        assert_eq!(names, [(1, "my-sink"), (2, "my-rule")]);
    }

    #[test]
    fn whatever_else_is_refused() {
        for length in 0..NOTE.len() {
            read(&NOTE[..length]).unwrap_err();
        }
        let mut other = NOTE;
        other[0] = b'X';
        assert_eq!(read(&other), Err("it does not begin as a note does"));
        // Any byte wrong: an error or another note, never a panic.
        for at in 0..NOTE.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut other = NOTE;
                other[at] = byte;
                let _ = read(&other);
            }
        }
        let mut newer = NOTE;
        newer[12] = 9;
        assert_eq!(read(&newer).unwrap().abi, (9, ABI_MINOR));
    }
}
