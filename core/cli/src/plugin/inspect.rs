//! `ottla plugins inspect`: what a library holds and needs, without running any of its code.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use ottla_api::Result;
use ottla_api::boundary::abi::{ABI_MAJOR, ABI_MINOR};
use ottla_api::boundary::body;
use ottla_runtime::plugins::loaded::{Examined, examine, look};
use serde_json::{Value, json};

use super::explain::first_sentence;

/// Options of `ottla plugins inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The library, such as `target/release/libmy_sink.so`.
    library: PathBuf,
}

/// What the file says of itself, and whether this worker would load it; the flag says that it would.
pub(super) fn inspect(args: &InspectArgs, as_json: bool) -> Result<(String, bool)> {
    let examined = look(&args.library)?;
    let refused = examine(&args.library, None).err().map(|error| error.to_string());
    let fits = refused.is_none();
    let text = if as_json { format!("{:#}\n", as_value(&examined, refused)) } else { as_text(&examined, refused) };
    Ok((text, fits))
}

fn as_text(examined: &Examined, refused: Option<String>) -> String {
    let Examined { note, digest, size, needs } = examined;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("library", format!("{} {}", note.name, note.version));
    line("plugin ABI", format!("{}.{} (this worker: {ABI_MAJOR}.{ABI_MINOR})", note.abi.0, note.abi.1));
    line("built with", format!("ottla-api {}, {}", note.sdk, note.rustc));
    line("for", note.target.clone());
    line("panics", if note.unwinds { "unwind" } else { "abort" }.to_owned());
    line("size", format!("{size} bytes"));
    line("SHA-256", digest.to_string());
    line("needs", if needs.is_empty() { "no other library".to_owned() } else { needs.join(" ") });
    line("loads here", refused.map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")));
    let width = note.plugins.iter().map(|(_, name, ..)| name.len()).max().unwrap_or_default();
    let _ = writeln!(text, "\nplugins");
    for (kind, name, version, doc) in &note.plugins {
        let kind = body::kind_of(*kind).map_or_else(|| "unknown kind".to_owned(), |kind| kind.to_string());
        let _ = writeln!(text, "  {name:width$}  {kind} {version}: {}", first_sentence(doc));
    }
    text
}

fn as_value(examined: &Examined, refused: Option<String>) -> Value {
    let Examined { note, digest, size, needs } = examined;
    let plugins = note.plugins.iter().map(|(kind, name, version, doc)| {
        let kind = body::kind_of(*kind).map(|kind| kind.to_string());
        json!({ "name": name, "kind": kind, "version": version, "doc": doc })
    });
    json!({
        "library": note.name, "version": note.version,
        "abi": { "major": note.abi.0, "minor": note.abi.1 },
        "sdk": note.sdk, "rustc": note.rustc, "target": note.target,
        "panic": if note.unwinds { "unwind" } else { "abort" },
        "size": size, "sha256": digest.to_string(), "needs": needs,
        "loads": refused.is_none(), "refused": refused,
        "plugins": plugins.collect::<Vec<_>>(),
    })
}
