//! `ottla demo`: data to try things with.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use ottla_api::Result;
use ottla_api::config::Secret;

/// Options of `ottla demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    command: DemoCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DemoCommand {
    /// Write the three tables of the emulated database into a real one.
    Load(LoadArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ottla demo load --url sqlite://posts.sqlite
  OTTLA_DB_PASSWORD=.. ottla demo load --url mysql://db/pinterest --user admin")]
struct LoadArgs {
    /// The database: `sqlite://PATH`, `mysql://HOST:PORT/DATABASE` or `postgres://HOST:PORT/DATABASE`.
    #[arg(long)]
    url: String,
    /// User of the database.
    #[arg(long)]
    user: Option<String>,
    /// Its password; better through OTTLA_DB_PASSWORD, which does not show in a list of processes.
    #[arg(long)]
    password: Option<String>,
    /// Rows from the files pin.jsonl, geo.jsonl and user.jsonl of this folder instead of generated ones.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

/// Runs.
pub(crate) async fn run(args: DemoArgs) -> Result<()> {
    let DemoCommand::Load(load) = args.command;
    let password = load.password.or_else(|| std::env::var("OTTLA_DB_PASSWORD").ok()).map(Secret::new);
    let style =
        ProgressStyle::with_template("{prefix:18} {wide_bar} {human_pos}/{human_len}").expect("a constant template");
    let bar = ProgressBar::new(0).with_style(style);
    let progress = |table: &str, done: u64, all: u64| {
        bar.set_prefix(table.to_owned());
        bar.set_length(all);
        bar.set_position(done);
    };
    match &load.from {
        None => ottla_connector_rds::demo::load(&load.url, load.user.as_deref(), password.as_ref(), progress).await?,
        Some(folder) => {
            ottla_connector_rds::demo::load_jsonl(&load.url, load.user.as_deref(), password.as_ref(), folder, progress)
                .await?;
        }
    }
    bar.finish_and_clear();
    eprintln!("The tables pinterest_data, geolocation_data and user_data are in place.");
    Ok(())
}
