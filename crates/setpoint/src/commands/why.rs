//! `setpoint why`

use anyhow::Result;
use clap::ValueEnum;

use crate::clients::ClientArguments;

/// Says what is wanted of an object, what is there, what blocks it and what would unblock it.
///
/// Exit code 0: it is as it should be; 2: it is not; 1: the question could not be answered.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// KIND/NAME, as in modeldeployment/chat
    object: String,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    client: ClientArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// Stable, for programs
    Json,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.client.client().await?;
    let question = setpoint_cli::why::Question {
        object: arguments.object,
        namespace: arguments.namespace,
    };
    let answer = setpoint_cli::why::why(&client, &question).await?;
    match arguments.output {
        Output::Text => print!("{}", setpoint_cli::why::text(&answer)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
    }
    if !answer.healthy {
        std::process::exit(2);
    }
    Ok(())
}
