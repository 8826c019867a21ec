//! What it was measured on.

use std::fmt;

use serde::Serialize;

use crate::cli::proc::{field, kib_of};

/// The machine and the programs.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The processors' name.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
    /// PostgreSQL's version.
    pub postgresql: String,
    /// The broker's version.
    pub nats_server: String,
    /// Our version.
    pub watchbell: &'static str,
    /// `release` or `debug`.
    pub build: &'static str,
}

impl Machine {
    /// This machine, with these servers.
    pub fn of_this(postgresql: String, nats_server: String) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib_of(&read("/proc/meminfo"), "MemTotal").unwrap_or_default() / 1024,
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            postgresql,
            nats_server,
            watchbell: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, memory_mib, processor, kernel, postgresql, nats_server, watchbell, build } = self;
        write!(
            f,
            "{cores} x {processor}, {memory_mib} MiB, Linux {kernel}\n\
             watchbell {watchbell} ({build}), PostgreSQL {postgresql} (fsync on), nats-server {nats_server}"
        )
    }
}
