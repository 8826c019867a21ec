//! The service as processes of this very program, killed and paused.
//!
//! Invariant: a process that ended for whatever reason is started again at once, as a supervisor would; one that ended
//! without our doing is counted.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::schedule::{Event, Fault};
use crate::dev::process::{ServerCommand, ServerProcess, Signal};
use crate::dev::user::{ServerUser, my_uid};

const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What happened to the processes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Toll {
    /// SIGKILLs.
    pub kills: i64,
    /// SIGSTOPs that ended with a SIGCONT.
    pub pauses: i64,
    /// Processes that ended without our doing.
    pub ended_by_themselves: i64,
    /// Processes that did not end well when they were asked to.
    pub ended_badly: i64,
}

/// Where a process logs.
pub fn log_file(logs: &Path, place: usize) -> PathBuf {
    logs.join(format!("service-{place}.log"))
}

/// The processes.
pub struct Processes {
    program: PathBuf,
    environment: Vec<(String, String)>,
    logs: PathBuf,
    running: Vec<ServerProcess>,
    resume_at: Vec<Option<Instant>>,
    /// So far.
    pub toll: Toll,
}

impl Processes {
    /// Starts so many; their log lines go to files in `logs`.
    ///
    /// # Errors
    /// If they can't be started.
    pub fn start(environment: Vec<(String, String)>, logs: &Path, count: usize) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut processes = Self {
            program,
            environment,
            logs: logs.to_owned(),
            running: Vec::new(),
            resume_at: vec![None; count],
            toll: Toll::default(),
        };
        for place in 0..count {
            let process = processes.spawn(place)?;
            processes.running.push(process);
        }
        Ok(processes)
    }

    fn spawn(&self, place: usize) -> anyhow::Result<ServerProcess> {
        ServerProcess::start(ServerCommand {
            name: "watchbell",
            program: self.program.clone(),
            arguments: vec!["serve".into()],
            environment: self.environment.clone(),
            // It is no server for others; and this program may lie where only we can reach it.
            user: ServerUser::Myself { uid: my_uid()? },
            log: log_file(&self.logs, place),
            // Also when we are gone: a paused process would never see anything gentler.
            stop: Signal::Kill,
            abort: Signal::Kill,
        })
    }

    /// Does what the schedule says.
    ///
    /// # Errors
    /// If a process can't be signalled or started.
    pub async fn suffer(&mut self, event: Event) -> anyhow::Result<()> {
        match event.fault {
            Fault::Kill => self.kill(event.process).await?,
            Fault::Pause(length) if self.resume_at[event.process].is_none() => {
                self.running[event.process].signal(Signal::Stop)?;
                self.resume_at[event.process] = Some(Instant::now() + length);
            }
            Fault::Pause(_) => {}
        }
        Ok(())
    }

    /// SIGKILL, and started again.
    ///
    /// # Errors
    /// As [`Self::suffer`].
    pub async fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        self.running[place].kill().await?;
        self.resume_at[place] = None;
        self.toll.kills += 1;
        self.running[place] = self.spawn(place)?;
        Ok(())
    }

    /// The id of a process.
    pub fn pid(&self, place: usize) -> u32 {
        self.running[place].pid()
    }

    /// Resumes whose pause is over, and starts again what ended by itself.
    ///
    /// # Errors
    /// As [`Self::suffer`].
    pub fn tend(&mut self) -> anyhow::Result<()> {
        for place in 0..self.running.len() {
            if self.resume_at[place].is_some_and(|at| at <= Instant::now()) {
                self.resume(place)?;
            }
            if let Some(status) = self.running[place].exit_status() {
                eprintln!("process {place} ended by itself ({status}), it is started again");
                self.toll.ended_by_themselves += 1;
                self.resume_at[place] = None;
                self.running[place] = self.spawn(place)?;
            }
        }
        Ok(())
    }

    fn resume(&mut self, place: usize) -> anyhow::Result<()> {
        self.running[place].signal(Signal::Cont)?;
        self.resume_at[place] = None;
        self.toll.pauses += 1;
        Ok(())
    }

    /// No more faults: whoever is paused goes on.
    ///
    /// # Errors
    /// As [`Self::suffer`].
    pub fn end_faults(&mut self) -> anyhow::Result<()> {
        for place in 0..self.running.len() {
            if self.resume_at[place].is_some() {
                self.resume(place)?;
            }
        }
        Ok(())
    }

    /// Asks them to end, one after the other, and counts who doesn't do it well.
    ///
    /// # Errors
    /// As [`Self::suffer`].
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for process in &self.running {
            process.signal(Signal::Term)?;
            match tokio::time::timeout(STOP_DEADLINE, process.wait()).await {
                Ok(status) if status.success() => {}
                _ => self.toll.ended_badly += 1,
            }
        }
        Ok(())
    }
}
