//! Tells the crate which compiler and target it is built with: a library states both, for a person to read.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version =
        Command::new(rustc).arg("--version").output().ok().and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo::rustc-env=OTTLA_RUSTC={}", version.as_deref().unwrap_or("an unknown compiler").trim());
    println!("cargo::rustc-env=OTTLA_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
}
