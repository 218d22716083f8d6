//! `Command`: any program that listens on the port that it is given.

use super::{EngineError, Launch, template};
use crate::process::CommandLine;

pub(super) fn command_line(launch: &Launch<'_>) -> Result<CommandLine, EngineError> {
    let command = &launch.replica.spec.engine.command;
    let mut words = template::expand_all("command", command, launch)?.into_iter();
    Ok(CommandLine {
        program: words.next().ok_or(EngineError::NoCommand)?.into(),
        args: words.collect(),
        ..CommandLine::default()
    })
}
