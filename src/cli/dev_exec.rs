//! `watchbell dev exec -- CMD`: runs a command with throw-away servers.
//!
//! Owns the life of one PostgreSQL and one NATS server around one command, which finds them in `DATABASE_URL` and
//! `NATS_URL`. Invariant: whatever ends the command or us, the servers stop and their data go; the exit code is the
//! command's. Where both variables are set already the command gets those servers and none is started. `main` calls
//! it, and through `make test` every test run.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use crate::dev::nats::PrivateNats;
use crate::dev::postgres::PrivatePostgres;
use crate::dev::process::Signal;
use crate::dev::provision;
use crate::dev::state::StateDir;

/// On a terminal Ctrl-C reaches the command without us; it is passed on only when the command seems not to know.
const TERMINAL_GRACE: Duration = Duration::from_secs(1);
/// What a shell adds to a signal's number to make an exit code of it.
const SIGNALLED: i32 = 128;

/// Runs `command` (program and arguments) with servers of its own, and returns its exit code: 128 + n if signal n
/// ended it.
pub async fn run(command: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let (program, arguments) =
        command.split_first().context("no command given: watchbell dev exec -- CMD")?;
    let mut child = Command::new(program);
    child.args(arguments).kill_on_drop(true);
    let mut interrupts = Interrupts::listen()?;

    if is_set("DATABASE_URL") && is_set("NATS_URL") {
        return interrupts
            .supervise(child.spawn().with_context(|| failed_to_run(program))?)
            .await
            .map(exit_code);
    }
    let servers = tokio::select! {
        servers = Servers::start() => servers?,
        number = interrupts.next() => return Ok(signalled(number)),
    };
    child.env("DATABASE_URL", servers.postgres.url()).env("NATS_URL", servers.nats.url());
    child.env("WATCHBELL_PRIVATE_SERVERS", "1");
    let result = match child.spawn().with_context(|| failed_to_run(program)) {
        Ok(child) => interrupts.supervise(child).await,
        Err(error) => Err(error),
    };
    // Before the `?`: they are stopped whatever became of the command.
    let stopped = servers.stop().await;
    let status = result?;
    stopped?;
    Ok(exit_code(status))
}

/// Throw-away servers.
pub(super) struct Servers {
    pub(super) postgres: PrivatePostgres,
    pub(super) nats: PrivateNats,
}

impl Servers {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let state = StateDir::open()?;
        // One after the other, since both may have to use the package manager, and since PostgreSQL's package brings
        // the account that both servers run under.
        provision::postgres::find_or_install().await?;
        provision::nats::find_or_install(&state).await?;
        let (postgres, nats) =
            tokio::join!(PrivatePostgres::throw_away(&state), PrivateNats::throw_away(&state));
        Ok(Self { postgres: postgres?, nats: nats? })
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let (postgres, nats) = tokio::join!(self.postgres.stop(), self.nats.stop());
        postgres.and(nats)
    }
}

/// The signals that ask us to end, from before the servers start until they are gone.
struct Interrupts {
    int: Signals,
    term: Signals,
}

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        let int = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
        let term = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        Ok(Self { int, term })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.int.recv() => Signal::Int,
            _ = self.term.recv() => Signal::Term,
        }
    }

    /// Waits for the command's end and passes signals on to it.
    async fn supervise(&mut self, mut child: Child) -> anyhow::Result<ExitStatus> {
        let pid = child.id();
        loop {
            let received = tokio::select! {
                status = child.wait() => return status.context("failed to wait for the command"),
                received = self.next() => received,
            };
            if received == Signal::Int
                && std::io::stdin().is_terminal()
                && let Ok(status) = tokio::time::timeout(TERMINAL_GRACE, child.wait()).await
            {
                return status.context("failed to wait for the command");
            }
            if let Some(pid) = pid {
                // It may have ended just now.
                let _ = received.send(pid);
            }
        }
    }
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn failed_to_run(program: &OsString) -> String {
    format!("failed to run {}", program.display())
}

fn signalled(by: Signal) -> ExitCode {
    let number: u8 = if by == Signal::Int { 2 } else { 15 };
    ExitCode::from(128 + number)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|number| SIGNALLED + number)).unwrap_or(1);
    // Exit codes have eight bits; what doesn't fit is an error all the same.
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
