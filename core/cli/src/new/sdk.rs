//! The SDK that the binary carries: the sources of the crates that a plugin is compiled against, as a workspace of their own.
//!
//! `build.rs` packs them as they lie in the repository. On the way out the manifests lose what only this repository has a use
//! for: other members, the dependencies of these, tests, lints.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::DeflateDecoder;
use ottla_api::error::ResultExt as _;
use ottla_api::{ErrorKind, Result};
use toml_edit::{Array, DocumentMut, Item, Table};

/// The folder of the SDK in a crate.
pub(crate) const FOLDER: &str = "ottla-sdk";

/// Files as `build.rs` packs them: a line `<path> <length>` and so many bytes each.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sdk.pack"));

/// The SDK, unpacked.
#[derive(Debug)]
pub(crate) struct Sdk {
    /// Path within the folder, and text.
    pub(crate) files: Vec<(String, String)>,
    /// The versions that the worker was built with. More than a plugin needs: cargo cuts it down.
    pub(crate) lock: String,
}

impl Sdk {
    /// Unpacks and mends the manifests.
    pub(crate) fn unpack() -> Self {
        let mut text = String::new();
        DeflateDecoder::new(PACKED).read_to_string(&mut text).expect("build.rs packs whole files of text");
        let mut files = Vec::new();
        let mut rest = text.as_str();
        while let Some((head, behind)) = rest.split_once('\n') {
            let (path, length) = head.rsplit_once(' ').expect("build.rs writes a path and a length");
            let (text, behind) = behind.split_at(length.parse().expect("build.rs writes a length"));
            files.push((path.to_owned(), text.to_owned()));
            rest = behind;
        }
        let mut take = |name: &str| {
            let index = files.iter().position(|(path, _)| path == name).expect("build.rs packs it");
            files.remove(index).1
        };
        let (workspace, lock) = (take("Cargo.toml"), take("Cargo.lock"));
        let members: Vec<String> =
            files.iter().filter_map(|(path, _)| path.strip_suffix("/Cargo.toml").map(str::to_owned)).collect();
        let mut used = Vec::new();
        for (_, text) in files.iter_mut().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
            let manifest = member(text);
            used.extend(dependencies(&manifest));
            *text = manifest.to_string();
        }
        files.insert(0, ("Cargo.toml".to_owned(), root(&workspace, &members, &used)));
        Self { files, lock }
    }

    /// Writes the folder, in the place of an older one.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let operation = |what: &str, path: &Path| format!("{what} {}", path.display());
        if folder.exists() {
            fs::remove_dir_all(folder).or_error(ErrorKind::Fatal, operation("replace", folder))?;
        }
        for (path, text) in &self.files {
            super::write_file(&folder.join(path), text)?;
        }
        Ok(())
    }
}

/// The manifest of the workspace with these members, and of the dependencies those that they use.
fn root(text: &str, members: &[String], used: &[String]) -> String {
    let whole: DocumentMut = text.parse().expect("cargo has read it");
    let mut manifest = DocumentMut::new();
    let mut workspace = Table::new();
    workspace.set_implicit(true);
    workspace["resolver"] = whole["workspace"]["resolver"].clone();
    workspace["members"] = Item::Value(members.iter().map(String::as_str).collect::<Array>().into());
    workspace["package"] = whole["workspace"]["package"].clone();
    let mut dependencies = Table::new();
    for (name, item) in whole["workspace"]["dependencies"].as_table().expect("a table").iter() {
        if used.iter().any(|used| used == name) {
            dependencies.insert(name, item.clone());
        }
    }
    workspace["dependencies"] = Item::Table(dependencies);
    // What a later compiler would rather have otherwise is not for the authors of plugins to mend.
    let mut lints = Table::new();
    lints["rust"]["warnings"] = "allow".into();
    lints.set_implicit(true);
    workspace["lints"] = Item::Table(lints);
    manifest["workspace"] = Item::Table(workspace);
    format!(
        "# The SDK of Ottla {}: what a plugin is compiled against. It is written by `ottla new`, and replaced by a later\n\
         # worker's with `ottla new sdk`, so changes in here get lost.\n\n{manifest}",
        env!("CARGO_PKG_VERSION")
    )
}

/// A member's manifest without its tests and benches.
fn member(text: &str) -> DocumentMut {
    let mut manifest: DocumentMut = text.parse().expect("cargo has read it");
    for table in ["dev-dependencies", "test", "bench", "example"] {
        manifest.remove(table);
    }
    manifest
}

/// The names of what a member is built with.
fn dependencies(manifest: &DocumentMut) -> Vec<String> {
    let tables = ["dependencies", "build-dependencies"].iter().filter_map(|name| manifest.get(name)?.as_table());
    tables.flat_map(|table| table.iter().map(|(name, _)| name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_sdk_is_whole_and_holds_nothing_else() {
        let sdk = Sdk::unpack();
        let paths: BTreeSet<&str> = sdk.files.iter().map(|(path, _)| path.as_str()).collect();
        for path in
            ["Cargo.toml", "LICENSE", "core/api/src/lib.rs", "core/testkit/Cargo.toml", "core/config-derive/src/lib.rs"]
        {
            assert!(paths.contains(path), "{path} is missing in {paths:?}");
        }
        for path in &paths {
            assert!(!path.contains("/tests/") && !path.contains("/benches/"), "{path}");
        }
        let manifest = |path: &str| -> DocumentMut {
            let (_, text) = sdk.files.iter().find(|(found, _)| found == path).unwrap();
            text.parse().unwrap()
        };
        // Every dependency of a member is in the workspace's list, and each of our crates there is a member.
        let root = manifest("Cargo.toml");
        let workspace = root["workspace"]["dependencies"].as_table().unwrap();
        let members: Vec<&str> =
            root["workspace"]["members"].as_array().unwrap().iter().filter_map(|m| m.as_str()).collect();
        for member in &members {
            let manifest = manifest(&format!("{member}/Cargo.toml"));
            assert!(manifest.get("dev-dependencies").is_none() && manifest.get("bench").is_none(), "{member}");
            for name in dependencies(&manifest) {
                assert!(workspace.contains_key(&name), "{member} needs {name}");
            }
        }
        for (name, item) in workspace.iter().filter(|(name, _)| name.starts_with("ottla-")) {
            let path = item.get("path").and_then(Item::as_str).unwrap();
            assert!(members.contains(&path), "{name}: {path} is no member");
        }
        assert!(sdk.lock.contains("\nname = \"tokio\"\n"));
    }

    /// The price of carrying it.
    #[test]
    fn the_packed_sdk_is_small() {
        assert!(PACKED.len() < 500_000, "the SDK takes {} bytes of the binary", PACKED.len());
    }
}
