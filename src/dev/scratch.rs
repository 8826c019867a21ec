//! Directories for throw-away servers, gone when their owner is.
//!
//! Owns `<state>/scratch/`. Invariant: a directory there is in use exactly while somebody holds the lock beside it, so
//! what a killed run left over can be told from what is in use, and the next run sweeps it. Several runs may use it at
//! once. The throw-away starts of [`super::postgres`] and [`super::nats`], and `watchbell dev exec`, call it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::state::{StateDir, make_directory, open_lock};
use super::token;

/// Servers that are on their way out may still write while their directory is removed.
const REMOVE_ATTEMPTS: usize = 10;

/// A directory that is removed with this value.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a new scratch directory, after sweeping those that killed runs left over.
    pub fn create(state: &StateDir) -> anyhow::Result<Self> {
        let all = state.subdirectory("scratch")?;
        // Creating and sweeping exclude each other: between making a lock file and locking it, it looks left over.
        let gate = open_lock(&all.join("gate"))?;
        gate.lock().context("failed to lock the scratch directory")?;
        sweep(&all)?;
        let name = format!("{}-{}", std::process::id(), token::random_hex(4)?);
        let lock_path = all.join(format!("{name}.lock"));
        let lock = open_lock(&lock_path)?;
        lock.try_lock().with_context(|| format!("failed to lock {}", lock_path.display()))?;
        let directory = all.join(name);
        make_directory(&directory)?;
        Ok(Self { directory, lock_path, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now is swept by the next run, since the lock goes with us.
        if remove(&self.directory).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

fn sweep(all: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(all).with_context(|| format!("failed to list {}", all.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let lock = open_lock(&path)?;
        if lock.try_lock().is_ok() && remove(&path.with_extension("")).is_ok() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> std::io::Result<()> {
    let mut result = Ok(());
    for _ in 0..REMOVE_ATTEMPTS {
        result = fs::remove_dir_all(directory);
        match &result {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(_) => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StateDir {
        let name = format!("/var/tmp/watchbell-test-{}", token::random_hex(8).unwrap());
        StateDir::open_at(Path::new(&name)).unwrap()
    }

    #[test]
    fn a_scratch_directory_goes_with_its_owner() {
        let state = state();
        let scratch = Scratch::create(&state).unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("data"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
        fs::remove_dir_all(state.path()).unwrap();
    }

    #[test]
    fn what_a_killed_run_left_over_is_swept_and_what_is_in_use_stays() {
        let state = state();
        let used = Scratch::create(&state).unwrap();
        // A killed run leaves a directory and a lock file that nobody holds.
        let left_over = state.path().join("scratch/1-abcd");
        fs::create_dir(&left_over).unwrap();
        fs::write(state.path().join("scratch/1-abcd.lock"), "").unwrap();
        let other = Scratch::create(&state).unwrap();
        assert!(!left_over.exists());
        assert!(used.path().exists() && other.path().exists());
        drop((used, other));
        fs::remove_dir_all(state.path()).unwrap();
    }
}
