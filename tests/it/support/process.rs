//! The real program as a process of its own, to be killed.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use watchbell::dev::process::Signal;

use super::wait::until;

/// `watchbell serve`; killed when the test ends.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    /// Starts it with these settings, as environment variables, and these roles. Its log lines go to [`Self::log`], and to
    /// the test's output when it is dropped.
    pub fn serve(environment: &HashMap<String, String>, roles: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_watchbell"))
            .args(["serve", "--roles", roles])
            .envs(environment)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut lines, written) = (child.stderr.take().unwrap(), Arc::clone(&log));
        tokio::spawn(async move {
            let mut chunk = vec![0; 65_536];
            while let Ok(length @ 1..) = lines.read(&mut chunk).await {
                written.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self { child, log }
    }

    /// What it logged until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGKILL: it gets no chance to say goodbye.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it logged this.
    pub fn log_when(&self, text: &'static str) -> impl Future<Output = ()> + use<> {
        let log = Arc::clone(&self.log);
        async move {
            let logged = async || String::from_utf8_lossy(&log.lock().unwrap()).contains(text).then_some(());
            until(text, logged).await;
        }
    }

    /// SIGSTOP: it does not move, and its connections stay.
    pub fn pause(&self) {
        Signal::Stop.send(self.pid()).unwrap();
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        Signal::Cont.send(self.pid()).unwrap();
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) {
        Signal::Term.send(self.pid()).unwrap();
    }

    /// SIGTERM; returns its exit code.
    pub async fn terminate(self) -> Option<i32> {
        self.ask_to_end();
        self.ended().await
    }

    /// Waits for its end; returns its exit code.
    pub async fn ended(mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever was.
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
