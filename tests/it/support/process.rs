//! The real program as a process of its own, to be killed.

use std::collections::HashMap;
use std::process::Stdio;

use tokio::process::{Child, Command};
use watchbell::dev::process::Signal;

/// `watchbell serve`; killed when the test ends.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it with these settings, as environment variables, and these roles. Its log lines go to the test's output.
    pub fn serve(environment: &HashMap<String, String>, roles: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_watchbell"))
            .args(["serve", "--roles", roles])
            .envs(environment)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGKILL: it gets no chance to say goodbye.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; returns its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        Signal::Term.send(self.pid()).unwrap();
        self.child.wait().await.unwrap().code()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }
}
