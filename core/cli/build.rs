//! How the binary is linked, and the SDK that it carries.
//!
//! The crates that a plugin is compiled against are packed into one compressed file, so that `ottla new` can write them beside
//! a new crate: they match the worker to the letter, and no registry has to have them. What is packed follows from the
//! workspace: the roots below and every crate of ours that they depend on.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// What an author names: the contract, and the suites for its tests.
const SDK_ROOTS: [&str; 2] = ["ottla-api", "ottla-testkit"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At a fixed address, 330,000 pointers are right as they lie in the file. Otherwise every start writes them all (14 MB of
    // memory for nothing, and 6 ms).
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    let to = Path::new(&std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("sdk.pack");
    fs::write(to, pack_sdk(Path::new("../.."))).expect("OUT_DIR is writable");
}

/// Each file as a line `<path> <length>` and so many bytes, all of them deflated.
fn pack_sdk(workspace: &Path) -> Vec<u8> {
    let mut files: Vec<PathBuf> = ["Cargo.toml", "Cargo.lock", "LICENSE"].map(PathBuf::from).into();
    for folder in sdk_crates(workspace) {
        files.push(folder.join("Cargo.toml"));
        files.extend(Some(folder.join("build.rs")).filter(|file| workspace.join(file).is_file()));
        add_files(workspace, &folder.join("src"), &mut files);
    }
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    for file in files {
        let text = without_tests(read(workspace, &file));
        write!(packed, "{} {}\n{text}", file.display(), text.len()).expect("memory takes it");
    }
    packed.finish().expect("memory takes it")
}

/// The folders of the roots and of what they depend on, in the order in which they are found.
fn sdk_crates(workspace: &Path) -> Vec<PathBuf> {
    let manifest = read(workspace, Path::new("Cargo.toml"));
    let folder = |name: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{name} = {{ path = \"")));
        let folder = line.and_then(|rest| rest.split('"').next());
        PathBuf::from(folder.unwrap_or_else(|| panic!("the workspace's Cargo.toml does not say where {name} is")))
    };
    let mut names = SDK_ROOTS.map(str::to_owned).to_vec();
    let mut next = 0;
    while let Some(name) = names.get(next).cloned() {
        let manifest = read(workspace, &folder(&name).join("Cargo.toml"));
        // What only the crate's own tests need comes behind `[dev-dependencies]`.
        let mut built = true;
        for line in manifest.lines() {
            built = if line.starts_with('[') { !line.starts_with("[dev-dependencies") } else { built };
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
            if built && name.starts_with("ottla-") && !names.contains(&name) {
                names.push(name);
            }
        }
        next += 1;
    }
    names.iter().map(|name| folder(name)).collect()
}

/// Every file below a folder.
fn add_files(workspace: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", workspace.join(folder).display());
    let entries = fs::read_dir(workspace.join(folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").file_name()).collect();
    // The same binary from the same sources, whatever order the disk has.
    names.sort();
    for name in names {
        let path = folder.join(name);
        match workspace.join(&path).is_dir() {
            true => add_files(workspace, &path, files),
            false => files.push(path),
        }
    }
}

/// The SDK's own unit tests need crates that its users have no use for.
fn without_tests(mut text: String) -> String {
    if let Some(begin) = text.find("\n#[cfg(test)]\nmod tests {") {
        text.truncate(begin);
    }
    text
}

fn read(workspace: &Path, file: &Path) -> String {
    println!("cargo::rerun-if-changed={}", workspace.join(file).display());
    fs::read_to_string(workspace.join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
