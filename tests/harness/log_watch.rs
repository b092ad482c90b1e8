//! Looks through everything that the product says: for secrets, and for warnings that nobody announced.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::worker::LogLine;

/// Looks for secrets in texts and files (G8).
#[derive(Debug, Default)]
pub struct SecretWatch {
    /// What the secret is, and a form of it that must not appear.
    forms: Vec<(String, String)>,
    found: Vec<String>,
    bytes: usize,
}

impl SecretWatch {
    /// A secret, with a name for it that may be shown.
    #[must_use]
    pub fn of(mut self, name: &str, secret: &str) -> Self {
        assert!(secret.len() >= 6, "{name} is so short that it is found by chance");
        self.forms.push((name.to_owned(), secret.to_owned()));
        // As part of something longer in base64 (an Authorization header): three alignments, their edges cut off.
        for before in 0..3 {
            let padded: Vec<u8> = std::iter::repeat_n(b'.', before).chain(secret.bytes()).collect();
            let whole = padded.len() / 3 * 3;
            let inner = &STANDARD.encode(&padded[..whole])[if before == 0 { 0 } else { 4 }..];
            self.forms.push((format!("{name} in base64"), inner.to_owned()));
        }
        self
    }

    /// Looks through a text.
    pub fn look(&mut self, place: &str, text: &str) {
        self.look_at(place, text.as_bytes());
    }

    fn look_at(&mut self, place: &str, bytes: &[u8]) {
        self.bytes += bytes.len();
        for (name, form) in &self.forms {
            if let Some(at) = find(bytes, form.as_bytes()) {
                // What surrounds the secret says where it came from; the secret itself isn't shown again.
                let before = String::from_utf8_lossy(&bytes[at.saturating_sub(80)..at]).into_owned();
                self.found.push(format!("{place}: {name}, after '{before}'"));
            }
        }
    }

    /// Looks through every file below a folder.
    pub fn look_in(&mut self, folder: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.look_in(&path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                self.look_at(&path.display().to_string(), &bytes);
            }
        }
    }

    /// Ends the search.
    ///
    /// # Panics
    ///
    /// Where a secret was found, or where less than `least` bytes were looked through: then the search was not one.
    #[track_caller]
    pub fn finish(self, least: usize) {
        assert!(self.bytes >= least, "only {} bytes were looked through", self.bytes);
        assert!(self.found.is_empty(), "{} secrets are shown:\n  {}", self.found.len(), self.found.join("\n  "));
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Checks that a log holds no warning and no error but the announced ones, told by a part of their line.
#[track_caller]
pub fn only_announced(log: &[LogLine], announced: &[&str]) {
    assert!(!log.is_empty(), "there is no log, so it can't be clean");
    let loud = log.iter().filter(|line| matches!(line.level(), "WARN" | "ERROR")).map(|line| line.0.to_string());
    let unexpected: Vec<String> = loud.filter(|line| !announced.iter().any(|part| line.contains(part))).collect();
    assert!(unexpected.is_empty(), "the log complains about something unexpected:\n  {}", unexpected.join("\n  "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_plainly_and_in_base64_at_any_position() {
        for text in [
            "a pa55-word-x",
            &STANDARD.encode("me:pa55-word-x"),
            &STANDARD.encode("you:pa55-word-x!"),
            &STANDARD.encode("pa55-word-x"),
        ] {
            let mut watch = SecretWatch::default().of("the password", "pa55-word-x");
            watch.look("here", text);
            assert!(!watch.found.is_empty(), "{text}");
            assert!(!watch.found[0].contains("pa55"), "{}", watch.found[0]);
        }
        let mut watch = SecretWatch::default().of("the password", "pa55-word-x");
        watch.look("here", "nothing but pa55-word");
        watch.finish(10);
    }
}
