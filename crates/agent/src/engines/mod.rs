//! Engines: how each type of model server is started. A type is a file here and an arm in [`command_line`].

mod candle;
mod command;
mod template;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use setpoint_inference::kinds::{EngineType, Replica};

use crate::process::CommandLine;

/// What an engine is started with.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub replica: &'a Replica,
    /// The verified weights.
    pub model: &'a Path,
    pub host: IpAddr,
    pub port: u16,
    /// Where the operator keeps engines.
    pub engine_dir: Option<&'a Path>,
}

impl Launch<'_> {
    /// The ids of the replica's devices, comma-separated.
    fn devices(&self) -> String {
        let binding = self.replica.binding.as_ref();
        binding.map(|binding| binding.devices.join(",")).unwrap_or_default()
    }
}

/// Why an engine cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("spec.engine.{field}: {message}")]
    Template { field: String, message: String },
    #[error("spec.engine.command is empty: name the program to run")]
    NoCommand,
    #[error(
        "the engine program {name} is not in {looked}; build it (cargo build --release -p {package}) or point --engine-dir at it"
    )]
    NoProgram {
        name: &'static str,
        package: &'static str,
        looked: String,
    },
}

/// What to run for a replica.
pub(crate) fn command_line(launch: &Launch<'_>) -> Result<CommandLine, EngineError> {
    let engine = &launch.replica.spec.engine;
    let mut line = match engine.type_ {
        EngineType::Candle => candle::command_line(launch)?,
        EngineType::Command => command::command_line(launch)?,
    };
    line.args.extend(template::expand_all("args", &engine.args, launch)?);
    // devices are isolated for every type; the user's own variables may not undo it
    for variable in &engine.env {
        let field = format!("env[{}]", variable.name);
        let value = template::expand(&field, &variable.value, launch)?;
        line.env.insert(variable.name.clone(), value);
    }
    line.env.insert("CUDA_VISIBLE_DEVICES".to_owned(), launch.devices());
    Ok(line)
}

/// Finds one of our own engine programs: in the operator's folder, or beside the running program.
fn find(launch: &Launch<'_>, name: &'static str, package: &'static str) -> Result<PathBuf, EngineError> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.to_owned()));
    let dirs: Vec<PathBuf> = launch
        .engine_dir
        .map(Path::to_owned)
        .into_iter()
        .chain(beside)
        .collect();
    let found = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let looked: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        EngineError::NoProgram {
            name,
            package,
            looked: looked.join(" or "),
        }
    })
}

#[cfg(test)]
mod tests;
