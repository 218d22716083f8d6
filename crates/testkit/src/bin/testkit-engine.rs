//! The testkit's engine as a process: see `setpoint_testkit::engine`.

use setpoint_testkit::engine::{self, EngineOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let options = match EngineOptions::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("testkit-engine: {message}");
            return std::process::ExitCode::from(2);
        }
    };
    match engine::run(options).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("testkit-engine: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
