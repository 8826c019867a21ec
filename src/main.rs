//! Temporary: `watchbell dev exec -- CMD`.
use std::process::ExitCode;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let command = std::env::args_os().skip_while(|argument| argument != "--").skip(1).collect();
    watchbell::cli::dev_exec::run(command).await
}
