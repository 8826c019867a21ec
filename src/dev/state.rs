//! The directory in which private servers keep their data.
//!
//! Owns `/var/tmp/watchbell-<uid>-<hash of the checkout's path>` (or `$WATCHBELL_STATE_DIR`): not below a home
//! directory, which an unprivileged server account couldn't enter, and with a short path. Invariants: the directory
//! is ours or refused (anybody may create names in `/var/tmp`); nobody else can write or list it; one run at a time
//! uses the kept data, because it holds the lock. `cli` and the servers of this room call it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::token;
use super::user::{ServerUser, my_uid};

/// Names the directory to use instead of the one below `/var/tmp`.
pub const OVERRIDE: &str = "WATCHBELL_STATE_DIR";
const PARENT: &str = "/var/tmp";

/// The state directory of a checkout: there, ours, and closed to others.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// Opens (creates) the state directory of the checkout around the current directory.
    pub fn open() -> anyhow::Result<Self> {
        Self::open_at(&Self::locate()?)
    }

    /// Opens (creates) a state directory at a path.
    pub fn open_at(root: &Path) -> anyhow::Result<Self> {
        make_directory(root)?;
        let user = ServerUser::choose()?;
        if !user.can_reach(&root.join("x")) {
            bail!(
                "the servers run as user {} and can't enter {}: set {OVERRIDE} to a directory that others may pass through",
                user.uid(),
                root.display()
            );
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Where the state directory is, whether or not it exists: `$WATCHBELL_STATE_DIR`, or a name below `/var/tmp`
    /// that is the same for the same user and checkout.
    pub fn locate() -> anyhow::Result<PathBuf> {
        if let Some(path) = std::env::var_os(OVERRIDE).filter(|path| !path.is_empty()) {
            return std::path::absolute(&path).with_context(|| format!("failed to make sense of {OVERRIDE}"));
        }
        let here = std::env::current_dir().context("failed to find the current directory")?;
        let checkout = here.ancestors().find(|above| above.join("Cargo.toml").is_file()).unwrap_or(&here);
        Ok(default_path(my_uid()?, checkout))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// A directory in it, made if need be. Servers may pass through it; what they may read or write is given to them.
    pub fn subdirectory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(name);
        make_directory(&path)?;
        Ok(path)
    }

    /// Takes the lock that the one run holds which uses the kept data. Held by somebody else, the error says by whom.
    pub fn lock(&self) -> anyhow::Result<RunLock> {
        let path = self.root.join("lock");
        let mut file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                Ok(RunLock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.rewind()?;
                file.read_to_string(&mut holder)?;
                let holder = if holder.is_empty() { "unknown" } else { holder.trim() };
                bail!(
                    "another run (process {holder}) already uses {}: stop that one first, or set {OVERRIDE} to another directory",
                    self.root.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("failed to lock {}", path.display()))
            }
        }
    }
}

/// Shows that this run is the one that uses the kept data; dropping it lets the next one in, and so does being killed.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Makes a directory of ours below one that is ours, or takes it as it is if it's there and ours.
///
/// As root others may pass through (mode 0711), because a server under another account must; else nobody may (0700).
pub fn make_directory(path: &Path) -> anyhow::Result<()> {
    let me = my_uid()?;
    let mode = if me == 0 { 0o711 } else { 0o700 };
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        make_directory(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // The umask may have taken away what a server needs.
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("failed to create {}", path.display())),
    }
    // Not following links: a link that somebody else put there is not ours, wherever it leads.
    let found =
        fs::symlink_metadata(path).with_context(|| format!("failed to look at {}", path.display()))?;
    if !found.is_dir() {
        bail!("{} is not a directory: remove it, or set {OVERRIDE} to another path", path.display());
    }
    if found.uid() != me {
        bail!(
            "{} belongs to user {} and not to us (user {me}): remove it, or set {OVERRIDE} to another path",
            path.display(),
            found.uid()
        );
    }
    if found.mode() & 0o022 != 0 {
        bail!(
            "others may write to {}: that is not safe; `chmod go-w` it if you trust its content",
            path.display()
        );
    }
    Ok(())
}

/// Opens a lock file without losing what is in it.
pub(super) fn open_lock(path: &Path) -> anyhow::Result<File> {
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.with_context(|| format!("failed to open {}", path.display()))
}

fn default_path(uid: u32, checkout: &Path) -> PathBuf {
    Path::new(PARENT).join(format!("watchbell-{uid}-{}", token::short_hash(checkout.as_os_str().as_bytes())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A path that nobody uses, below a directory that any account may pass through.
    fn fresh() -> PathBuf {
        Path::new(PARENT).join(format!("watchbell-test-{}", token::random_hex(8).unwrap()))
    }

    #[test]
    fn each_user_and_checkout_has_a_directory_of_its_own() {
        let path = default_path(7, Path::new("/home/a/watchbell"));
        assert!(path.to_str().unwrap().starts_with("/var/tmp/watchbell-7-"));
        assert_ne!(path, default_path(7, Path::new("/home/b/watchbell")));
        assert_ne!(path, default_path(8, Path::new("/home/a/watchbell")));
    }

    #[test]
    fn a_second_run_is_refused_and_told_who_runs() {
        let state = StateDir::open_at(&fresh()).unwrap();
        let first = state.lock().unwrap();
        let refused = state.lock().unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        state.lock().unwrap();
        fs::remove_dir_all(state.path()).unwrap();
    }

    #[test]
    fn others_can_not_list_the_directory() {
        let state = StateDir::open_at(&fresh()).unwrap();
        let below = state.subdirectory("data").unwrap();
        for path in [state.path(), &below] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o066, 0);
        }
        fs::remove_dir_all(state.path()).unwrap();
    }

    #[test]
    fn a_link_that_somebody_planted_is_refused() {
        let path = fresh();
        symlink("/tmp", &path).unwrap();
        let refused = StateDir::open_at(&path).unwrap_err().to_string();
        assert!(refused.contains("is not a directory"), "{refused}");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let path = fresh();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        let refused = StateDir::open_at(&path).unwrap_err().to_string();
        assert!(refused.contains("others may write"), "{refused}");
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn a_directory_that_belongs_to_somebody_else_is_refused() {
        let path = fresh();
        fs::create_dir(&path).unwrap();
        // Only root can give a directory away; anybody else has /root to look at.
        let foreign = match std::os::unix::fs::chown(&path, Some(65534), None) {
            Ok(()) => path.clone(),
            Err(_) => PathBuf::from("/root"),
        };
        let refused = StateDir::open_at(&foreign).unwrap_err().to_string();
        assert!(refused.contains("and not to us"), "{refused}");
        fs::remove_dir(&path).unwrap();
    }
}
