//! The program `watchbell`: reads the command line and hands it on.

use std::process::ExitCode;

use clap::Parser;
use watchbell::cli::command::{self, CommandLine};
use watchbell::cli::pipe;

#[tokio::main]
async fn main() -> ExitCode {
    pipe::end_quietly();
    command::run(CommandLine::parse()).await
}
