<<<<<<< HEAD
//! The real program as a command: what it prints, and its exit code.

use std::collections::HashMap;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Said {
    /// What it printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `watchbell` with these settings, as environment variables, and these arguments; `input` is its standard input.
pub async fn watchbell(environment: &HashMap<String, String>, arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_watchbell"))
        .args(arguments)
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
    let output = child.wait_with_output().await.unwrap();
    Said {
        code: output.status.code(),
        output: String::from_utf8(output.stdout).unwrap(),
=======
//! The real program, run to its end.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// No command that ends by itself takes longer.
const LONGEST: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub errors: String,
}

impl Finished {
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
    let run = Command::new(env!("CARGO_BIN_EXE_watchbell"))
        .args(arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(environment)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LONGEST, run).await;
    let output = output.unwrap_or_else(|_| panic!("{arguments:?} did not end in {LONGEST:?}")).unwrap();
    Finished {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
>>>>>>> main
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}
