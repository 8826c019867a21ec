//! The real program, run to its end.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// No command that ends by itself takes longer.
pub const LONGEST: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub errors: String,
}

impl Finished {
    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The one line of its own on standard error; log lines, which begin with a time, don't count.
    pub fn line(&self) -> &str {
        let mut lines = self.errors.lines().filter(|line| !line.starts_with("20"));
        match (lines.next(), lines.next()) {
            (Some(line), None) => line,
            _ => panic!("not one line: {self:?}"),
        }
    }
}

/// Runs `watchbell` with these arguments and nothing but these settings in its environment.
pub async fn watchbell(
    arguments: &[&str],
    environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
) -> Finished {
    watchbell_reading("", arguments, environment, LONGEST).await
}

/// The same with this on standard input, and a longest time of its own.
pub async fn watchbell_reading(
    input: &str,
    arguments: &[&str],
    environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    longest: Duration,
) -> Finished {
    let mut child = Command::new(env!("CARGO_BIN_EXE_watchbell"))
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end without having read all.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(longest, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{arguments:?} did not end in {longest:?}")).unwrap();
    Finished {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}
