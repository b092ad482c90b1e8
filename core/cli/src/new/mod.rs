//! `ottla new`: a crate with a plugin of one's own, which builds, is tested and runs.

mod name;
mod sdk;
mod template;

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::ValueEnum;
use ottla_api::error::ResultExt as _;
use ottla_api::{Error, ErrorKind, Result};
use ottla_runtime::plugins::Registry;

use sdk::Sdk;
use template::Template;

/// Options of `ottla new`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ottla new sink my-sink
  ottla new source orders-api --path plugins/orders-api
  ottla new transform mask-names --no-build
  ottla new sink my-sink --sdk ../ottla
      compiles against a checkout of Ottla instead of the SDK in this binary
  ottla new sdk
      in such a crate: replaces its SDK by this binary's")]
pub(crate) struct NewArgs {
    /// What it is: a source (into topics), a sink (out of topics), a transformation of records; or only a crate's new SDK.
    #[arg(value_name = "source|sink|transform", hide_possible_values = true)]
    kind: Kind,
    /// Its name, in words of small letters and digits with '-' between them. The crate and the plugin are called so.
    name: Option<String>,
    /// The folder to make; by default it has the name and lies in the current one.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// A checkout of Ottla to compile against, instead of the SDK that this binary carries.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Writes the files and does not try whether they compile.
    #[arg(long)]
    no_build: bool,
}

/// What is made.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Source,
    Sink,
    Transform,
    Sdk,
}

/// Makes the crate, or says why not.
pub(crate) fn run(args: NewArgs, registry: &Registry) -> Result<()> {
    let template = match args.kind {
        Kind::Source => &template::SOURCE,
        Kind::Sink => &template::SINK,
        Kind::Transform => &template::TRANSFORM,
        Kind::Sdk => return renew_sdk(&args),
    };
    let name = args.name.as_deref().ok_or_else(|| Error::config("it needs a name: ottla new sink my-sink"))?;
    name::check(name, registry)?;
    let folder = args.path.clone().unwrap_or_else(|| name.into());
    if folder.exists() {
        let way_out = "give another name, or another folder with --path";
        return Err(Error::config(format!("{} is there already: {way_out}", folder.display())));
    }
    let sdk = args.sdk.as_deref().map(checkout).transpose()?;
    // Before anything is written: half a crate is worse than none.
    expect_cargo(args.no_build)?;
    let begun = Instant::now();
    write(template, name, &folder, sdk.as_deref())?;
    format(&folder);
    if !args.no_build {
        say(&format!("building {} for the first time, which fetches and compiles what it needs\n", folder.display()));
        build(&folder)?;
    }
    say(&farewell(template, name, &folder, (!args.no_build).then(|| begun.elapsed().as_secs_f64())));
    Ok(())
}

/// Writes every file of the crate, and the SDK beside them.
fn write(template: &Template, name: &str, folder: &Path, sdk: Option<&Path>) -> Result<()> {
    for (path, text) in template.crate_of(name, sdk.unwrap_or(Path::new(sdk::FOLDER))) {
        write_file(&folder.join(path), &text)?;
    }
    let packed = Sdk::unpack();
    if sdk.is_none() {
        packed.write(&folder.join(sdk::FOLDER))?;
    }
    // The versions that this worker was built and tested with; cargo drops what this crate does not need.
    write_file(&folder.join("Cargo.lock"), &packed.lock)
}

/// Writes one file and the folders above it.
fn write_file(path: &Path, text: &str) -> Result<()> {
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)
    };
    write().or_error(ErrorKind::Fatal, format!("write {}", path.display()))
}

/// A checkout of Ottla as an absolute path.
fn checkout(path: &Path) -> Result<PathBuf> {
    let found = path.canonicalize().ok().filter(|path| path.join("core/api/Cargo.toml").is_file());
    found.ok_or_else(|| Error::config(format!("--sdk: {} has no core/api: it is no checkout of Ottla", path.display())))
}

/// Replaces the SDK of the crate in a folder.
fn renew_sdk(args: &NewArgs) -> Result<()> {
    if args.name.is_some() || args.sdk.is_some() {
        return Err(Error::config(
            "ottla new sdk: takes nothing but --path, the folder of a crate; by default the current one",
        ));
    }
    let folder = args.path.clone().unwrap_or_else(|| ".".into());
    let old = folder.join(sdk::FOLDER);
    if !old.is_dir() {
        let message = format!(
            "{} is not there: `ottla new sdk` renews the SDK of a crate that `ottla new` has made",
            old.display()
        );
        return Err(Error::config(message));
    }
    Sdk::unpack().write(&old)?;
    say(&format!("{} is that of Ottla {} now\n", old.display(), env!("CARGO_PKG_VERSION")));
    Ok(())
}

/// Looks for cargo, unless nothing is to be built.
fn expect_cargo(no_build: bool) -> Result<()> {
    let found =
        no_build || Command::new("cargo").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let message = "cargo is missing: install Rust (https://rustup.rs), then run this again; or write the files alone with --no-build";
    if found { Ok(()) } else { Err(Error::config(message)) }
}

/// Formats the crate: names are of different lengths. Where there is no rustfmt it stays as it is.
fn format(folder: &Path) {
    let quiet = || Stdio::null();
    let _ =
        Command::new("cargo").arg("fmt").current_dir(folder).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
}

/// Proves that it compiles. What cargo says is shown as it says it.
fn build(folder: &Path) -> Result<()> {
    let status = Command::new("cargo").arg("build").current_dir(folder).stdin(Stdio::null()).status();
    let status = status.or_error(ErrorKind::Fatal, "start cargo")?;
    if status.success() {
        return Ok(());
    }
    let message = format!("cargo build failed, see above; the files are in {}", folder.display());
    Err(Error::fatal(message))
}

/// What there is, and what to type next.
fn farewell(template: &Template, name: &str, folder: &Path, seconds: Option<f64>) -> String {
    let Template { what, begin, .. } = template;
    let proven = seconds.map_or_else(String::new, |seconds| format!(", and it compiles ({seconds:.0} s)"));
    format!(
        "\nThe {what} {name} is in {folder}{proven}. Next:

  cd {folder}
  cargo test    the conformance suite
  ottla dev     runs example.toml with it, and again whenever you change something

Begin in {begin}; README.md says what the other files are for.\n",
        folder = folder.display()
    )
}

/// Says something to the person who waits.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if out.is_terminal() {
        let _ = out.flush();
    }
}
