//! `Candle`: Setpoint's own server for GGUF models on the processor, a program beside ours.

use super::{EngineError, Launch, find};
use crate::process::CommandLine;

/// The program, which is also its package's name.
const PROGRAM: &str = "setpoint-engine-candle";

pub(super) fn command_line(launch: &Launch<'_>) -> Result<CommandLine, EngineError> {
    let args = [
        "--model".to_owned(),
        launch.model.display().to_string(),
        "--host".to_owned(),
        launch.host.to_string(),
        "--port".to_owned(),
        launch.port.to_string(),
        "--name".to_owned(),
        launch.replica.spec.model.name.clone(),
    ];
    Ok(CommandLine {
        program: find(launch, PROGRAM, PROGRAM)?,
        args: args.into(),
        ..CommandLine::default()
    })
}
