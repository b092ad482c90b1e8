//! What can be known of a library without running any of its code: who may write to it, its digest, its note.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use ottla_api::boundary::VERSION;
use ottla_api::boundary::abi::note::{self, Note, SIZES};
use ottla_api::boundary::abi::{ABI_MAJOR, ABI_MINOR, SECTION, SYMBOL, TARGET};
use ottla_api::config::ConfigValue;
use ottla_api::{Error, Result};

/// A SHA-256 digest; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut own = [0; 32];
        own.copy_from_slice(digest.as_ref());
        Self(own)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bad =
            || format!("must be a SHA-256 digest, 64 hexadecimal digits as sha256sum prints them, found '{text}'");
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(digest))
    }
}

impl ConfigValue for Digest {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn type_name() -> Cow<'static, str> {
        "SHA-256".into()
    }
}

/// A library that may be loaded.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What it says of itself.
    pub note: Note,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The shared libraries that it needs.
    pub needs: Vec<String>,
}

/// Looks at a file, and whether it may be loaded. None of its code is run.
///
/// # Errors
///
/// Of kind `Config`: why it can't be loaded, and what to do.
pub fn examine(path: &Path, allowed: Option<&BTreeSet<Digest>>) -> Result<Examined> {
    let refused = |why: String| Error::config(format!("{}: {why}", path.display()));
    let examined = look(path)?;
    writable_by_others(path).map_err(refused)?;
    if allowed.is_some_and(|allowed| !allowed.contains(&examined.digest)) {
        return Err(refused(format!(
            "its SHA-256 digest is {}, which plugin.sha256 does not list; if this is the file that you mean, add it there",
            examined.digest
        )));
    }
    fits(&examined.note).map_err(refused)?;
    Ok(examined)
}

/// Looks at a file that may well not be fit for this worker. None of its code is run.
///
/// # Errors
///
/// Of kind `Config`: where it is no whole library of plugins.
pub fn look(path: &Path) -> Result<Examined> {
    let refused = |why: String| Error::config(format!("{}: {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| refused(format!("can't be read: {error}")))?;
    if !metadata.is_file() {
        return Err(refused("is not a file".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|error| refused(format!("can't be read: {error}")))?;
    let digest = Digest::of(&bytes);
    let (note, needs) = read(&bytes).map_err(refused)?;
    Ok(Examined { note, digest, size: metadata.len(), needs })
}

/// Whoever may write to the file, or put another in its place, runs code as the worker.
fn writable_by_others(path: &Path) -> Result<(), String> {
    let whole = path.canonicalize().map_err(|error| format!("can't be read: {error}"))?;
    for place in [Some(whole.as_path()), whole.parent()].into_iter().flatten() {
        let metadata = std::fs::metadata(place).map_err(|error| format!("can't be read: {error}"))?;
        // In a folder with the sticky bit nobody replaces another's file.
        let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o002 != 0 && !sticky {
            return Err(format!(
                "everybody may write to {}, and so run code in this worker: chmod o-w it, or move the library",
                place.display()
            ));
        }
        let own = rustix::process::geteuid().as_raw();
        if metadata.is_file() && metadata.uid() != 0 && metadata.uid() != own {
            return Err(format!(
                "it belongs to user {}, neither to root nor to the worker's user {own}: chown it, or let the worker run as its owner",
                metadata.uid()
            ));
        }
    }
    Ok(())
}

/// What is said of a library without a note.
const NOT_OURS: &str = "is not a library of Ottla plugins: it has no section .ottla.plugin, which ottla_api::export_plugins! makes in a crate with \
                        crate-type = [\"cdylib\"]";

/// True for the error about a shared library that has nothing to do with Ottla.
pub fn is_not_ours(error: &Error) -> bool {
    error.message().ends_with(NOT_OURS)
}

/// The note of a shared object, and what the object needs.
fn read(bytes: &[u8]) -> Result<(Note, Vec<String>), String> {
    let file = object::File::parse(bytes).map_err(|error| format!("is not a whole shared library: {error}"))?;
    let Some(section) = file.section_by_name(SECTION) else { return Err(NOT_OURS.to_owned()) };
    let section = section
        .data()
        .map_err(|error| format!("is damaged or cut off: its section {SECTION} can't be read: {error}"))?;
    let note = note::read(section).map_err(|why| format!("is damaged: its section {SECTION} can't be read: {why}"))?;
    if !file.dynamic_symbols().any(|symbol| symbol.name() == Ok(SYMBOL)) {
        return Err(format!("is damaged: it does not export {SYMBOL}"));
    }
    Ok((note, needed(bytes).unwrap_or_default()))
}

/// The names of the shared libraries that an object needs (`DT_NEEDED`).
fn needed(bytes: &[u8]) -> Option<Vec<String>> {
    use object::elf;
    use object::read::elf::{Dyn as _, FileHeader as _};
    let header = elf::FileHeader64::<object::Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (entries, link) = sections.dynamic(endian, bytes).ok()??;
    let strings = sections.strings(endian, bytes, link).ok()?;
    let names = entries.iter().filter(|entry| entry.tag32(endian).map(i64::from) == Some(elf::DT_NEEDED));
    Some(
        names
            .filter_map(|entry| Some(String::from_utf8_lossy(entry.string(endian, strings).ok()?).into_owned()))
            .collect(),
    )
}

/// Whether a library is built for this worker.
fn fits(note: &Note) -> Result<(), String> {
    let (major, minor) = note.abi;
    if major != ABI_MAJOR {
        let way_out = if major > ABI_MAJOR { "or take a newer worker" } else { "or take the worker it was built for" };
        return Err(format!(
            "built for plugin ABI {major}, this worker has {ABI_MAJOR}: rebuild it with ottla-api {VERSION}, {way_out}"
        ));
    }
    if minor > ABI_MINOR {
        return Err(format!(
            "built for plugin ABI {major}.{minor} (ottla-api {}), this worker has {ABI_MAJOR}.{ABI_MINOR}: take a newer worker, or \
             rebuild it with ottla-api {VERSION}",
            note.sdk
        ));
    }
    if !same_platform(&note.target) {
        return Err(format!(
            "built for {}, this worker runs on {TARGET}: build it with --target {TARGET}",
            note.target
        ));
    }
    // Structures only grow with the minor version: what this side reads must be there.
    if note.sizes.iter().zip(SIZES).any(|(theirs, ours)| minor == ABI_MINOR && *theirs != ours) {
        return Err(format!(
            "its structures have other sizes ({:?}, here {SIZES:?}) though it is built for the same plugin ABI: rebuild it with ottla-api {VERSION}",
            note.sizes
        ));
    }
    if !note.unwinds {
        return Err(
            "built with panic = \"abort\": a panic in it would end the whole worker; take that line out of the profile in its Cargo.toml \
             (or RUSTFLAGS) and rebuild it"
                .to_owned(),
        );
    }
    Ok(())
}

/// Processor and system must be the same; who made the C library's environment (`gnu`, `musl`) must too, as both would be in one process.
fn same_platform(target: &str) -> bool {
    let parts = |target: &str| {
        let mut parts = target.split('-');
        (parts.next().map(str::to_owned), parts.skip(1).map(str::to_owned).collect::<Vec<_>>())
    };
    parts(target) == parts(TARGET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            abi: (ABI_MAJOR, ABI_MINOR),
            sizes: SIZES,
            unwinds: true,
            target: TARGET.to_owned(),
            rustc: String::new(),
            sdk: VERSION.to_owned(),
            name: "mine".to_owned(),
            version: "1".to_owned(),
            plugins: Vec::new(),
        }
    }

    #[test]
    fn a_library_that_does_not_fit_is_told_why_and_what_to_do() {
        assert_eq!(fits(&note()), Ok(()));
        let refused = |change: fn(&mut Note)| {
            let mut other = note();
            change(&mut other);
            fits(&other).unwrap_err()
        };
        let newer = refused(|note| note.abi = (ABI_MAJOR + 1, 0));
        assert!(newer.starts_with("built for plugin ABI 2, this worker has 1: rebuild it with ottla-api "), "{newer}");
        assert!(refused(|note| note.abi.1 += 1).contains("take a newer worker"));
        assert!(refused(|note| note.target = "riscv64gc-unknown-linux-gnu".to_owned()).contains("--target"));
        assert!(refused(|note| note.sizes[1] += 8).contains("other sizes"));
        assert!(refused(|note| note.unwinds = false).contains("panic = \"abort\""));
    }

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "12", &"g".repeat(64), &"é".repeat(32)] {
            assert!(wrong.parse::<Digest>().unwrap_err().contains("64 hexadecimal digits"));
        }
    }

    #[test]
    fn what_is_no_library_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.so");
        assert!(examine(&path, None).unwrap_err().to_string().contains("can't be read"));
        for bytes in [&b""[..], b"hello", b"\x7fELF\x02\x01\x01"] {
            std::fs::write(&path, bytes).unwrap();
            let refused = examine(&path, None).unwrap_err().to_string();
            assert!(refused.contains("is not a whole shared library"), "{refused}");
        }
        // A real program, but not one of ours.
        std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        let refused = examine(&path, None).unwrap_err().to_string();
        assert!(refused.contains("is not a library of Ottla plugins"), "{refused}");
    }
}
