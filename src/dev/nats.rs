//! A private NATS server with JetStream.
//!
//! Owns one store directory and the server on it: listening on 127.0.0.1 only, on a port of its own that it keeps
//! until it is dropped. It asks for no password: the client library doesn't take one from a URL. Invariant: no server
//! ever runs on a store that another still uses; what a killed run left behind is ended first. `watchbell dev` and the integration tests call it; the latter also
//! to take it down, crash it and bring it back.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;

use super::process::{self, ServerCommand, ServerProcess, Signal};
use super::provision;
use super::scratch::Scratch;
use super::state::{StateDir, make_directory};
use super::user::ServerUser;
use super::{port, token};

/// Recovery of a large stream after a crash takes its time.
const READY_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(5);
/// How often another port is tried when somebody was faster.
const PORT_ATTEMPTS: usize = 10;

/// How to start a private NATS server.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// A directory that is this server's own; made if need be. Below it are the streams, the configuration and the log.
    pub store_dir: PathBuf,
    /// The server program, as [`provision::nats::find_or_install`] returns it.
    pub program: PathBuf,
    /// Further blocks for the server's configuration; a `jetstream` block would replace ours, store directory and all.
    pub configuration: String,
}

/// A private NATS server. Dropping it aborts the server; [`PrivateNats::stop`] is the polite way.
#[derive(Debug)]
pub struct PrivateNats {
    server: Server,
    port: u16,
    url: String,
    process: Option<ServerProcess>,
    /// After `process`: the directory may go only when the server is gone.
    scratch: Option<Scratch>,
}

impl PrivateNats {
    /// Starts a server on a store directory and waits until JetStream answers.
    pub async fn start(options: NatsOptions) -> anyhow::Result<Self> {
        let server = Server::prepare(options).await?;
        let mut result = Err(anyhow::anyhow!("no port was tried"));
        for _ in 0..PORT_ATTEMPTS {
            let port = port::free()?;
            result = server.launch(port).await.map(|process| (port, process));
            match &result {
                Err(_) if !port::is_free(port) => {} // somebody was faster
                _ => break,
            }
        }
        let (port, process) = result.context("failed to start a private NATS server")?;
        let url = format!("nats://127.0.0.1:{port}");
        Ok(Self { server, port, url, process: Some(process), scratch: None })
    }

    /// Finds or fetches the program, and starts a server whose data go with it.
    pub async fn throw_away(state: &StateDir) -> anyhow::Result<Self> {
        let program = provision::nats::find_or_install(state).await?;
        let scratch = Scratch::create(state)?;
        let store_dir = scratch.path().join("nats");
        let options = NatsOptions { store_dir, program, configuration: String::new() };
        let mut started = Self::start(options).await?;
        started.scratch = Some(scratch);
        Ok(started)
    }

    /// `nats://127.0.0.1:port`; the same as long as this value lives, across [`PrivateNats::restart`].
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ServerProcess::pid)
    }

    /// Where the server's log is.
    pub fn log(&self) -> PathBuf {
        self.server.log()
    }

    /// Stops the server; its streams are kept (except for a throw-away's, which go).
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.take_down().await
    }

    /// Shuts the server down in good order, to be brought back with [`PrivateNats::restart`].
    pub async fn take_down(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.stop(STOP_DEADLINE).await.map(drop),
            None => Ok(()),
        }
    }

    /// Kills the server, as a crash would.
    pub async fn kill_hard(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().await.map(drop),
            None => Ok(()),
        }
    }

    /// Brings the server back on the same port and store; shuts it down first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.take_down().await?;
        self.process =
            Some(self.server.launch(self.port).await.context("failed to restart the private NATS server")?);
        Ok(())
    }
}

/// What stays the same from start to start.
#[derive(Debug)]
struct Server {
    program: PathBuf,
    user: ServerUser,
    home: PathBuf,
    /// What the server calls itself, so that it can be told from whoever else may answer on its port.
    name: String,
    configuration: String,
}

impl Server {
    async fn prepare(options: NatsOptions) -> anyhow::Result<Self> {
        let home = std::path::absolute(&options.store_dir)?;
        make_directory(&home)?;
        let streams = home.join("streams");
        let user = ServerUser::for_directory(&streams)?;
        if !user.can_reach(&streams) {
            bail!("nats-server runs as user {} here, who can't reach {}", user.uid(), streams.display());
        }
        if !streams.exists() {
            fs::DirBuilder::new().mode(0o700).create(&streams)?;
            user.give(&streams)?;
        }
        let server = Self {
            program: options.program,
            user,
            name: format!("watchbell-{}", token::random_hex(8)?),
            configuration: options.configuration,
            home,
        };
        server.end_strays().await?;
        Ok(server)
    }

    fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    fn configuration_file(&self) -> PathBuf {
        self.home.join("nats.conf")
    }

    /// In a file and not on the command line: callers may add to it, secrets too.
    fn write_configuration(&self, port: u16) -> anyhow::Result<()> {
        let path = self.configuration_file();
        // The server sets the bytes that streams may use against what it may use altogether, by default less than a
        // test's worth of streams on a small disk.
        let text = format!(
            "host: \"127.0.0.1\"\nport: {port}\nserver_name: {name:?}\n\
             jetstream {{ store_dir: {store:?}, max_file_store: 1TB }}\n\
             {more}\n",
            name = self.name,
            store = self.home.join("streams"),
            more = self.configuration,
        );
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes()).with_context(|| format!("failed to write {}", path.display()))?;
        self.user.give(&path)
    }

    /// Starts the server on a port and waits until it greets with its name.
    async fn launch(&self, port: u16) -> anyhow::Result<ServerProcess> {
        self.write_configuration(port)?;
        let process = ServerProcess::start(ServerCommand {
            name: "nats-server",
            program: self.program.clone(),
            arguments: vec![OsString::from("-c"), self.configuration_file().into()],
            environment: Vec::new(),
            user: self.user,
            log: self.log(),
            stop: Signal::Term,
            abort: Signal::Kill,
        })?;
        match tokio::time::timeout(READY_DEADLINE, self.ready(port, &process)).await {
            Ok(ready) => ready?,
            Err(_) => bail!("nats-server didn't answer within {READY_DEADLINE:?}:\n{}", process.log_tail()),
        }
        Ok(process)
    }

    async fn ready(&self, port: u16, process: &ServerProcess) -> anyhow::Result<()> {
        loop {
            if let Some(status) = process.exit_status() {
                bail!("nats-server ended while it started ({status}):\n{}", process.log_tail());
            }
            match tokio::time::timeout(Duration::from_secs(1), greeting(port)).await {
                Ok(Ok(greeting)) if is_ready(&greeting, &self.name) => return Ok(()),
                _ => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Ends the server that a killed run left on this store, if there is one.
    async fn end_strays(&self) -> anyhow::Result<()> {
        let configuration = self.configuration_file();
        let strays = || process::find(self.user.uid(), |command_line| is_ours(command_line, &configuration));
        for signal in [Signal::Term, Signal::Kill] {
            for pid in strays()? {
                // It may have ended since; that is as good.
                let _ = signal.send(pid);
                process::gone(pid, Duration::from_secs(10)).await;
            }
        }
        if let [pid, ..] = strays()?[..] {
            bail!("process {pid} of an earlier run still uses {} and won't end", self.home.display());
        }
        Ok(())
    }
}

/// The line with which a server greets whoever connects.
async fn greeting(port: u16) -> std::io::Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}

fn is_ready(greeting: &str, name: &str) -> bool {
    let Some(info) = greeting.strip_prefix("INFO ") else { return false };
    let info: serde_json::Value = serde_json::from_str(info).unwrap_or_default();
    info["server_name"] == name && info["jetstream"] == true
}

fn is_ours(command_line: &[u8], configuration: &Path) -> bool {
    let arguments: Vec<&[u8]> = command_line.split(|&byte| byte == 0).collect();
    arguments.windows(2).any(|pair| pair == [b"-c".as_slice(), configuration.as_os_str().as_bytes()])
}

#[cfg(test)]
mod tests;
