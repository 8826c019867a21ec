//! The program `watchbell`: reads the command line and hands it on.

use std::process::ExitCode;

use clap::Parser;
use watchbell::cli::command::{self, CommandLine};

#[tokio::main]
async fn main() -> ExitCode {
    command::run(CommandLine::parse()).await
}
