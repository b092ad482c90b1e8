//! Log lines on standard error: text for a person, JSON for a machine, never through a progress line.

use std::io::{self, IsTerminal as _, Write};

use indicatif::MultiProgress;
use tracing::warn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Text where standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the progress display needs of the log: lines are written above the live ones.
#[derive(Debug, Clone)]
pub(crate) struct Logging {
    /// The live lines.
    pub(crate) live: MultiProgress,
    /// Whether there may be any.
    pub(crate) terminal: bool,
}

/// Starts logging. `level` is what Ottla and its connectors say where OTTLA_LOG says nothing else.
pub(crate) fn start(format: LogFormat, level: &str) -> Logging {
    let terminal = io::stderr().is_terminal();
    let logging = Logging { live: MultiProgress::new(), terminal };
    let setting = std::env::var("OTTLA_LOG").unwrap_or_default();
    let (filter, wrong) = match filter(level, &setting) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(format!("{level},{LIBRARIES}")), Some(error)),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AboveLive(logging.live.clone()));
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).with_target(false).init();
    } else {
        lines.with_ansi(terminal).with_target(false).compact().init();
    }
    if let Some(error) = wrong {
        warn!("OTTLA_LOG must be a level such as debug, or levels by module such as info,sqlx=debug: {error}");
    }
    logging
}

/// What libraries log where OTTLA_LOG says nothing else. They log what they retry; what matters of that is said by the task
/// concerned.
const LIBRARIES: &str = "aws_config=error,aws_runtime=warn,aws_sdk_kinesis=warn,aws_sdk_s3=warn,\
    aws_smithy_http_client=warn,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,buoyant_kernel=warn,\
    buoyant_kernel_engine=warn,datafusion=warn,delta_kernel=warn,delta_kernel_default_engine=warn,deltalake_core=warn,\
    fjall=warn,h2=warn,hyper=warn,hyper_util=warn,lsm_tree=warn,mio=warn,object_store=warn,rustls=warn,sfa=warn,sqlx=warn";

/// A level alone is for Ottla and its connectors; a library is louder only where it is named.
fn filter(level: &str, setting: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(format!("{level},{LIBRARIES},{setting}"))
}

/// Writes a line while the live lines are out of the way.
#[derive(Debug, Clone)]
struct AboveLive(MultiProgress);

impl Write for AboveLive {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AboveLive {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_leaves_libraries_quiet_until_they_are_named() {
        let parts = |setting| {
            let filter = filter("info", setting).unwrap().to_string();
            filter.split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        let has = |setting, part: &str| parts(setting).iter().any(|other| other == part);
        assert!(has("", "info") && has("", "fjall=warn"));
        assert!(has("debug", "debug") && !has("debug", "info") && has("debug", "fjall=warn"));
        assert!(has("fjall=debug", "fjall=debug") && !has("fjall=debug", "fjall=warn"));
        assert!(filter("info", "a=b=c").is_err());
    }
}
