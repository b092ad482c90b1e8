//! Building the crate in this folder, and finding the library that comes out.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use ottla_api::error::ResultExt as _;
use ottla_api::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::process::Command;

/// Runs `cargo build`, whose messages look as they always do. The library; nothing where the build failed.
///
/// # Errors
///
/// Where cargo can't be started, or the crate makes no library that can be loaded.
pub(super) async fn build(release: bool) -> Result<Option<PathBuf>> {
    let mut command = Command::new("cargo");
    command.args(["build", "--message-format=json-render-diagnostics"]).args(release.then_some("--release"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let way_out = "start cargo: install Rust (https://rustup.rs), or put it into PATH";
    let child = command.spawn().or_error(ErrorKind::Config, way_out)?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let output = child.wait_with_output().await.or_error(ErrorKind::Fatal, "wait for cargo")?;
    group.0 = None;
    if !output.status.success() {
        return Ok(None);
    }
    let manifest = Path::new("Cargo.toml").canonicalize().or_error(ErrorKind::Fatal, "find Cargo.toml")?;
    let library = library(&String::from_utf8_lossy(&output.stdout), &manifest);
    let way_out = "Cargo.toml: the crate makes no library that a worker can load: write crate-type = [\"cdylib\", \"rlib\"] under [lib]";
    library.map(Some).ok_or_else(|| Error::config(way_out))
}

/// Cargo with all that it has started, compilers and build scripts; ended where nobody waits for them any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

/// The shared library among the messages of cargo, each a line of JSON.
fn library(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let of_this_crate = |message: &Value| {
        let kinds = message["target"]["crate_types"].as_array();
        message["reason"] == "compiler-artifact"
            && message["manifest_path"].as_str().map(Path::new) == Some(manifest)
            && kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
    };
    let artifact = messages.lines().filter_map(|line| serde_json::from_str(line).ok()).find(of_this_crate)?;
    let files = artifact["filenames"].as_array()?.iter().filter_map(Value::as_str);
    let ending = format!(".{}", std::env::consts::DLL_EXTENSION);
    files.filter(|file| file.ends_with(&ending)).map(PathBuf::from).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_the_one_of_this_crate() {
        let artifact = |manifest: &str, kind: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","target":{{"crate_types":["{kind}","rlib"]}},"filenames":["/t/a.rlib","{file}"]}}"#
            )
        };
        let messages = [
            "not JSON".to_owned(),
            artifact("/other/Cargo.toml", "cdylib", "/t/libother.so"),
            artifact("/mine/Cargo.toml", "cdylib", "/t/libmine.so"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found = |manifest: &str| library(&messages.join("\n"), Path::new(manifest));
        assert_eq!(found("/mine/Cargo.toml"), Some(PathBuf::from("/t/libmine.so")));
        assert_eq!(found("/third/Cargo.toml"), None);
    }
}
