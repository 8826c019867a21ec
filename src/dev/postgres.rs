//! A private PostgreSQL server.
//!
//! Owns one data directory and the server on it: made at first use, listening on 127.0.0.1 only, on a port of its
//! own that it keeps until it is dropped, with a random password. Invariant: no server ever runs on data that another
//! still uses; what a killed run left behind is ended first. `watchbell dev` and the integration tests call it; the
//! latter also to take it down, crash it and bring it back.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use super::process::{self, ServerCommand, ServerProcess, Signal};
use super::provision::postgres::{self as programs, PostgresPrograms};
use super::scratch::Scratch;
use super::state::{StateDir, make_directory};
use super::user::ServerUser;
use super::{port, token};

const USER: &str = "watchbell";
const DATABASE: &str = "watchbell";
/// Recovery after a crash may have much to replay.
const READY_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(10);
/// How often another port is tried when somebody was faster.
const PORT_ATTEMPTS: usize = 10;
/// For every server: tests run in parallel, and each partition of a table that a statement touches is a lock.
const SETTINGS: [&str; 5] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "max_locks_per_transaction=256",
    "timezone=UTC",
];
/// For data that isn't kept: a crash of the server still loses nothing, a crash of the machine may.
const THROW_AWAY_SETTINGS: [&str; 4] =
    ["fsync=off", "full_page_writes=off", "shared_buffers=64MB", "max_wal_size=4GB"];

/// How to start a private PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// A directory that is this server's own; made if need be. Below it are the data, the password and the log.
    pub data_dir: PathBuf,
    /// Whether what it commits survives a crash of the machine (`fsync`).
    pub durable: bool,
    /// Further settings, `name=value`; they win over ours.
    pub settings: Vec<String>,
}

/// A private PostgreSQL server. Dropping it aborts the server; [`PrivatePostgres::stop`] is the polite way.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Server,
    port: u16,
    url: String,
    process: Option<ServerProcess>,
    /// After `process`: the directory may go only when the server is gone.
    scratch: Option<Scratch>,
}

impl PrivatePostgres {
    /// Starts a server on a data directory and waits until it answers. Finds or installs the programs first, makes
    /// the data directory, and the database that [`PrivatePostgres::url`] names, where they are missing.
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
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
        let (port, process) = result.context("failed to start a private PostgreSQL")?;
        let url = format!("postgres://{USER}:{}@127.0.0.1:{port}/{DATABASE}", server.password);
        Ok(Self { server, port, url, process: Some(process), scratch: None })
    }

    /// Starts a server whose data goes with it, quick rather than durable.
    pub async fn throw_away(state: &StateDir) -> anyhow::Result<Self> {
        Self::start_in_scratch(state, false, Vec::new()).await
    }

    /// Starts a server whose data goes with it, and which writes as one does whose data must stay: for measuring.
    pub async fn throw_away_durable(state: &StateDir, settings: Vec<String>) -> anyhow::Result<Self> {
        Self::start_in_scratch(state, true, settings).await
    }

    async fn start_in_scratch(
        state: &StateDir,
        durable: bool,
        settings: Vec<String>,
    ) -> anyhow::Result<Self> {
        let scratch = Scratch::create(state)?;
        let data_dir = scratch.path().join("postgres");
        let mut started = Self::start(PostgresOptions { data_dir, durable, settings }).await?;
        started.scratch = Some(scratch);
        Ok(started)
    }

    /// `postgres://user:password@127.0.0.1:port/watchbell`; the user is a superuser. The same as long as this value
    /// lives, across [`PrivatePostgres::restart`].
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The postmaster's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ServerProcess::pid)
    }

    /// Where the server's log is.
    pub fn log(&self) -> PathBuf {
        self.server.log()
    }

    /// Stops the server; connections that are open are cut, everything committed is kept (except for a
    /// throw-away's data, which go).
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.take_down().await
    }

    /// Shuts the server down in good order, to be brought back with [`PrivatePostgres::restart`].
    pub async fn take_down(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.stop(STOP_DEADLINE).await.map(drop),
            None => Ok(()),
        }
    }

    /// Kills every process of the server, as a crash would, and waits until all are gone.
    pub async fn kill_hard(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.kill().await?;
        }
        // Its children notice when they next look; a crash doesn't wait for that.
        self.server.end_strays(Signal::Kill).await
    }

    /// Brings the server back on the same port and data; shuts it down first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.take_down().await?;
        self.server.end_strays(Signal::Quit).await?;
        self.process =
            Some(self.server.launch(self.port).await.context("failed to restart the private PostgreSQL")?);
        Ok(())
    }
}

/// What stays the same from start to start.
#[derive(Debug)]
struct Server {
    programs: PostgresPrograms,
    user: ServerUser,
    home: PathBuf,
    /// In the titles of all its processes, so that they can be told from other servers'.
    cluster: String,
    password: String,
    durable: bool,
    settings: Vec<String>,
}

impl Server {
    async fn prepare(options: PostgresOptions) -> anyhow::Result<Self> {
        let programs = programs::find_or_install().await?;
        let home = std::path::absolute(&options.data_dir)?;
        make_directory(&home)?;
        let mut server = Self {
            programs,
            user: ServerUser::for_directory(&home.join("data"))?,
            cluster: format!("watchbell-{}", token::short_hash(home.as_os_str().as_bytes())),
            password: String::new(),
            durable: options.durable,
            settings: options.settings,
            home,
        };
        server.check_reach()?;
        match fs::read_to_string(server.data().join("PG_VERSION")) {
            Ok(version) => server.use_version(version.trim()).await?,
            Err(_) => server.create().await?,
        }
        let password = server.home.join("password");
        server.password = fs::read_to_string(&password)
            .with_context(|| format!("failed to read {}", password.display()))?;
        server.end_strays(Signal::Int).await?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    fn check_reach(&self) -> anyhow::Result<()> {
        for path in [self.programs.program("postgres"), self.data()] {
            if !self.user.can_reach(&path) {
                bail!("PostgreSQL runs as user {} here, who can't reach {}", self.user.uid(), path.display());
            }
        }
        Ok(())
    }

    /// Data can be opened only by the major version that made them.
    async fn use_version(&mut self, version: &str) -> anyhow::Result<()> {
        if version == self.programs.major.to_string() {
            return Ok(());
        }
        if let Ok(major) = version.parse()
            && let Some(programs) = programs::find_major(major).await
        {
            self.programs = programs;
            return Ok(());
        }
        bail!(
            "the data in {} were made by PostgreSQL {version}, and the one found here is {} ({}): set {} to the \
             programs of version {version}, or remove that directory to start afresh",
            self.home.display(),
            self.programs.major,
            self.programs.directory.display(),
            programs::OVERRIDE,
        )
    }

    /// Makes the data directory: aside first, then moved into place, so that a run killed on the way leaves none.
    async fn create(&self) -> anyhow::Result<()> {
        let partial = self.home.join("data.new");
        if partial.exists() {
            fs::remove_dir_all(&partial)
                .with_context(|| format!("failed to remove {}", partial.display()))?;
        }
        fs::DirBuilder::new().mode(0o700).create(&partial)?;
        self.user.give(&partial)?;
        let password = token::random_hex(24)?;
        write_secret(&self.home.join("password"), &password)?;
        let for_initdb = self.home.join("password.initdb");
        write_secret(&for_initdb, &password)?;
        self.user.give(&for_initdb)?;

        let mut pwfile = OsString::from("--pwfile=");
        pwfile.push(&for_initdb);
        let initdb = ServerProcess::start(ServerCommand {
            name: "initdb",
            program: self.programs.program("initdb"),
            arguments: vec![
                "--encoding=UTF8".into(),
                "--locale=C".into(),
                "--auth=scram-sha-256".into(),
                format!("--username={USER}").into(),
                "--no-sync".into(),
                "--no-instructions".into(),
                pwfile,
                "--pgdata".into(),
                partial.clone().into(),
            ],
            environment: Vec::new(),
            user: self.user,
            log: self.log(),
            stop: Signal::Term,
            abort: Signal::Kill,
        })?;
        let status = initdb.wait().await;
        let _ = fs::remove_file(&for_initdb);
        if !status.success() {
            bail!("failed to make a PostgreSQL data directory ({status}):\n{}", initdb.log_tail());
        }
        fs::rename(&partial, self.data()).context("failed to move the new data directory into place")
    }

    /// Starts the server on a port and waits until it answers with our password.
    async fn launch(&self, port: u16) -> anyhow::Result<ServerProcess> {
        let mut arguments: Vec<OsString> =
            vec!["-D".into(), self.data().into(), "-p".into(), port.to_string().into()];
        let ours = SETTINGS.iter().chain(if self.durable { [].iter() } else { THROW_AWAY_SETTINGS.iter() });
        let ours = ours.map(ToString::to_string).chain([format!("cluster_name={}", self.cluster)]);
        for setting in ours.chain(self.settings.iter().cloned()) {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let process = ServerProcess::start(ServerCommand {
            name: "postgres",
            program: self.programs.program("postgres"),
            arguments,
            environment: Vec::new(),
            user: self.user,
            log: self.log(),
            stop: Signal::Int,
            abort: Signal::Quit,
        })?;
        match tokio::time::timeout(READY_DEADLINE, self.ready(port, &process)).await {
            Ok(ready) => ready?,
            Err(_) => bail!("PostgreSQL didn't answer within {READY_DEADLINE:?}:\n{}", process.log_tail()),
        }
        Ok(process)
    }

    async fn ready(&self, port: u16, process: &ServerProcess) -> anyhow::Result<()> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(USER).password(&self.password).dbname("postgres");
        config.connect_timeout(Duration::from_secs(5));
        loop {
            if let Some(status) = process.exit_status() {
                bail!("PostgreSQL ended while it started ({status}):\n{}", process.log_tail());
            }
            match config.connect(NoTls).await {
                Ok((client, connection)) => {
                    let connection = tokio::spawn(connection);
                    let created = client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await;
                    drop(client);
                    let _ = connection.await;
                    return match created {
                        Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
                        created => created.context("failed to create the database"),
                    };
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Ends what a killed run, or a crash, left of this server: postmaster and children. The postmaster is asked with
    /// `first`; who doesn't go is killed. Afterwards its pid file is stale for sure, and is removed, because its pid
    /// may by now be somebody else's, which PostgreSQL can't tell.
    async fn end_strays(&self, first: Signal) -> anyhow::Result<()> {
        for signal in [first, Signal::Kill] {
            let strays = self.strays()?;
            for &pid in &strays {
                // It may have ended since; that is as good.
                let _ = signal.send(pid);
            }
            for pid in strays {
                process::gone(pid, Duration::from_secs(10)).await;
            }
        }
        if let [pid, ..] = self.strays()?[..] {
            bail!("process {pid} of an earlier run still uses {} and won't end", self.home.display());
        }
        match fs::remove_file(self.data().join("postmaster.pid")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("failed to remove a stale postmaster.pid")
            }
            _ => Ok(()),
        }
    }

    fn strays(&self) -> anyhow::Result<Vec<u32>> {
        let data = self.data();
        process::find(self.user.uid(), |command_line| is_ours(command_line, &data, &self.cluster))
    }
}

/// A postmaster is known by its `-D`, its children by the cluster's name in their titles.
fn is_ours(command_line: &[u8], data: &Path, cluster: &str) -> bool {
    let arguments: Vec<&[u8]> = command_line.split(|&byte| byte == 0).collect();
    arguments.windows(2).any(|pair| pair == [b"-D".as_slice(), data.as_os_str().as_bytes()])
        || command_line.starts_with(format!("postgres: {cluster}: ").as_bytes())
}

/// Writes a file that only we can read.
fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes()).with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests;
