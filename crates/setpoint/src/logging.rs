//! Logs: to standard error, for people at a terminal and as JSON lines elsewhere on request.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How to log.
#[derive(Args, Clone, Debug)]
pub(crate) struct Logging {
    /// What to log, as in RUST_LOG: `info`, `setpoint_engine=debug,warn`
    #[arg(long, env = "SETPOINT_LOG", default_value = "info", global = true)]
    log: String,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t, global = true)]
    log_format: LogFormat,
}

impl Logging {
    /// Starts logging. A filter that does not parse is an error of the user's, said with what is wrong.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let filter =
            EnvFilter::try_new(&self.log).map_err(|e| anyhow::anyhow!("--log {:?} is not a filter: {e}", self.log))?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
        Ok(())
    }
}
