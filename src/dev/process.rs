//! A server process of ours: started, watched, stopped.
//!
//! Owns the child processes of this room. Invariants: a server ends with us, whatever ends us (the kernel signals
//! it when the thread that spawned it is gone, so each has a thread that lives as long as it does); it is in a
//! process group of its own, so that Ctrl-C on the terminal reaches only us and we decide the order of stopping;
//! it is waited for, so that its pid stays its own. [`super::postgres`] and [`super::nats`] call it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::sync::watch;

use super::user::ServerUser;

/// How long a process that was told to abort may take before it is killed.
const ABORT_DEADLINE: Duration = Duration::from_secs(5);
/// As much of a log as fits into an error message.
const LOG_TAIL_BYTES: usize = 2_000;

/// The signals that this room sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: for PostgreSQL, a fast shutdown.
    Int,
    /// SIGTERM.
    Term,
    /// SIGQUIT: for PostgreSQL, an immediate shutdown.
    Quit,
    /// SIGKILL.
    Kill,
    /// SIGSTOP: pauses a process.
    Stop,
    /// SIGCONT: lets it go on.
    Cont,
}

impl Signal {
    /// The name without `SIG`, as `kill -s` and `setpriv --pdeathsig` take it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }

    /// Sends the signal to one process.
    ///
    /// Goes through the shell's own `kill`: the program of that name is in a package that a minimal system
    /// lacks, and the system call would need `unsafe`.
    pub fn send(self, pid: u32) -> anyhow::Result<()> {
        let output = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "sh", self.name(), &pid.to_string()])
            .stdin(Stdio::null())
            .output()
            .context("failed to run sh")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("failed to send {} to process {pid}: {}", self.name(), why.trim());
        }
        Ok(())
    }
}

/// What to start, and how it wants to be ended.
#[derive(Debug)]
pub struct ServerCommand {
    /// What to call it in messages.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments; they are visible to every user of the machine, so no secrets.
    pub arguments: Vec<OsString>,
    /// Variables of its environment, beside those that programs need to be found and loaded.
    pub environment: Vec<(String, String)>,
    /// The account it runs under.
    pub user: ServerUser,
    /// Where its output is appended.
    pub log: PathBuf,
    /// Asks it to stop in good order; also what it is sent when we are gone.
    pub stop: Signal,
    /// Asks it to stop at once.
    pub abort: Signal,
}

/// A running (or ended) server. Dropping it aborts the server and waits for its end.
#[derive(Debug)]
pub struct ServerProcess {
    name: &'static str,
    pid: u32,
    stop: Signal,
    abort: Signal,
    log: PathBuf,
    log_start: u64,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Says nothing; it closes when the thread that waits for the child ends. For `Drop`, which can't await.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl ServerProcess {
    /// Starts a server. That it runs doesn't mean that it is ready.
    pub fn start(what: ServerCommand) -> anyhow::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&what.log);
        let log = log.with_context(|| format!("failed to open {}", what.log.display()))?;
        let log_start = log.metadata()?.len();

        let mut command = what.user.command(&what.program, what.stop.name());
        command.args(&what.arguments).envs(what.environment).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);

        let (started, start) = mpsc::channel();
        let (exited, exit) = watch::channel(None);
        // The kernel ties the child to the thread that spawned it, so this thread stays until the child is gone.
        let (thread_lives, ended) = mpsc::channel();
        thread::Builder::new().name(format!("watch-{}", what.name)).spawn(move || {
            let _thread_lives: mpsc::Sender<()> = thread_lives;
            match command.spawn() {
                Err(error) => drop(started.send(Err(error))),
                Ok(mut child) => {
                    // Who asked may be gone already; the child is waited for all the same.
                    let _ = started.send(Ok(child.id()));
                    let status = child.wait().ok().unwrap_or_default();
                    exited.send_replace(Some(status));
                }
            }
        })?;
        let pid = start
            .recv()
            .map_err(|_| anyhow!("the thread that starts {} ended", what.name))?
            .with_context(|| format!("failed to start {} ({})", what.name, what.program.display()))?;
        Ok(Self {
            name: what.name,
            pid,
            stop: what.stop,
            abort: what.abort,
            log: what.log,
            log_start,
            exit,
            ended: Mutex::new(ended),
        })
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, or `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits for its end.
    pub async fn wait(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        // The sender is dropped only after it sent, except when the thread panicked: then there is no status.
        match exit.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            Err(_) => ExitStatus::default(),
        }
    }

    /// Sends a signal; fine if the process is gone already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match signal.send(self.pid) {
            Err(error)
                if self.exit_status().is_none() && Path::new(&format!("/proc/{}", self.pid)).exists() =>
            {
                Err(error.context(format!("failed to signal {}", self.name)))
            }
            _ => Ok(()),
        }
    }

    /// Asks it to stop; aborts it after `deadline`; kills it when even that doesn't help.
    pub async fn stop(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        for (signal, patience) in [(self.stop, deadline), (self.abort, ABORT_DEADLINE)] {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            self.signal(signal)?;
            if let Ok(status) = tokio::time::timeout(patience, self.wait()).await {
                return Ok(status);
            }
        }
        self.kill().await
    }

    /// Kills it, as a crash would, and waits until it is gone.
    pub async fn kill(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::Kill)?;
        match tokio::time::timeout(ABORT_DEADLINE, self.wait()).await {
            Ok(status) => Ok(status),
            Err(_) => bail!("{} (process {}) is still there after SIGKILL", self.name, self.pid),
        }
    }

    /// What it wrote to its log since this start: the end of it, for error messages and to tell why it ended.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log, self.log_start).unwrap_or_else(|error| format!("(no log: {error})"))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.exit_status().is_some() {
            return;
        }
        // Nothing more can be done about an error here; the death signal still ends the process with us.
        let _ = self.signal(self.abort);
        let _ = self.signal(Signal::Cont);
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(ABORT_DEADLINE) {
            let _ = self.signal(Signal::Kill);
            let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = ended.recv_timeout(ABORT_DEADLINE);
        }
    }
}

fn log_tail(log: &Path, start: u64) -> anyhow::Result<String> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let tail = &text[text.len().saturating_sub(LOG_TAIL_BYTES)..];
    Ok(String::from_utf8_lossy(tail).trim().to_owned())
}

/// Processes of user `uid` whose command line (arguments separated by NUL) the caller recognises: how what a killed
/// run left behind is found. A pid file can't tell, since pids are used again.
pub fn find(uid: u32, recognise: impl Fn(&[u8]) -> bool) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("failed to list /proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end between any two of these lines.
        let Ok(owner) = entry.metadata() else { continue };
        let Ok(command_line) = fs::read(entry.path().join("cmdline")) else { continue };
        if owner.uid() == uid && recognise(&command_line) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Waits until a process is gone that isn't our child (whose end can't be waited for otherwise).
pub async fn gone(pid: u32, patience: Duration) -> bool {
    let path = PathBuf::from(format!("/proc/{pid}"));
    let look = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while path.exists() && !is_zombie(&path) {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(patience, look).await.is_ok()
}

/// A process that ended and that nobody waits for (in a container without an init, for one) counts as gone.
fn is_zombie(proc: &Path) -> bool {
    let stat = fs::read_to_string(proc.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> ServerProcess {
        ServerProcess::start(ServerCommand {
            name: "shell",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            user: ServerUser::choose().unwrap(),
            log: "/dev/null".into(),
            stop: Signal::Term,
            abort: Signal::Quit,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn how_it_ended_is_told_also_to_who_stops_it_later() {
        let process = shell("exit 3");
        assert_eq!(process.wait().await.code(), Some(3));
        assert_eq!(process.stop(Duration::ZERO).await.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn who_ignores_being_asked_is_aborted() {
        let process = shell("trap '' TERM; while :; do sleep 0.05; done");
        process.stop(Duration::from_millis(200)).await.unwrap();
        assert!(gone(process.pid(), Duration::ZERO).await);
    }

    #[tokio::test]
    async fn dropping_ends_it() {
        let process = shell("exec sleep 600");
        let pid = process.pid();
        let start = Instant::now();
        drop(process);
        assert!(start.elapsed() < ABORT_DEADLINE);
        assert!(gone(pid, Duration::ZERO).await);
    }

    #[tokio::test]
    async fn a_paused_process_is_found_and_ended_too() {
        let process = shell("exec sleep 601");
        let found = || find(ServerUser::choose().unwrap().uid(), |line| line == b"sleep\x00601\x00").unwrap();
        // Until `setpriv` and the shell have made way.
        while found().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(found(), [process.pid()]);
        process.signal(Signal::Stop).unwrap();
        drop(process);
        assert!(found().is_empty());
    }
}
