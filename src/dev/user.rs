//! The account under which a private server runs.
//!
//! PostgreSQL refuses to run as root, and nothing we start needs to. So as root every server runs under an
//! unprivileged account, through `setpriv` (util-linux, present on every Debian and Ubuntu); as anybody else it
//! runs as that user. Invariant: no server process ever has uid 0 or a capability. [`super::process`] builds its
//! commands here; [`super::postgres`] and [`super::nats`] hand directories over to the account.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Accounts tried in this order when we are root.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Who a server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerUser {
    /// The user who started us: what anybody but root gets.
    Myself {
        /// Our own user id.
        uid: u32,
    },
    /// An unprivileged account that root switches to.
    Account {
        /// User id of the account.
        uid: u32,
        /// Its primary group.
        gid: u32,
    },
}

impl ServerUser {
    /// Ourselves, or, as root, the account `postgres`, or `nobody` where that doesn't exist.
    pub fn choose() -> anyhow::Result<Self> {
        let uid = my_uid()?;
        if uid != 0 {
            return Ok(Self::Myself { uid });
        }
        let passwd = fs::read_to_string("/etc/passwd").context("failed to read /etc/passwd")?;
        match CANDIDATES.iter().find_map(|name| account(&passwd, name)) {
            Some((uid, gid)) => Ok(Self::Account { uid, gid }),
            None => bail!(
                "the servers can't run as root, and this machine has neither an account `postgres` nor `nobody`"
            ),
        }
    }

    /// As [`ServerUser::choose`], but data that is there already stays with the account that owns it: the choice
    /// may have changed since, when PostgreSQL's package came with its account.
    pub fn for_directory(directory: &Path) -> anyhow::Result<Self> {
        let chosen = Self::choose()?;
        match (chosen, fs::symlink_metadata(directory)) {
            (Self::Account { .. }, Ok(found)) if found.is_dir() && found.uid() != 0 => {
                Ok(Self::Account { uid: found.uid(), gid: found.gid() })
            }
            _ => Ok(chosen),
        }
    }

    /// User id of the server's processes.
    pub fn uid(&self) -> u32 {
        match *self {
            Self::Myself { uid } | Self::Account { uid, .. } => uid,
        }
    }

    /// Makes the account the owner of a file or directory that we made.
    pub fn give(&self, path: &Path) -> anyhow::Result<()> {
        match *self {
            Self::Myself { .. } => Ok(()),
            Self::Account { uid, gid } => chown(path, Some(uid), Some(gid))
                .with_context(|| format!("failed to hand {} over to user {uid}", path.display())),
        }
    }

    /// `program`, to be run under this account, and to be sent `death_signal` when the **thread** that spawns it ends.
    ///
    /// The environment is emptied except for what programs need to be found and loaded: a server has no use for
    /// the secrets in ours.
    pub fn command(&self, program: &Path, death_signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        if let Self::Account { uid, gid } = *self {
            command
                .args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()])
                .args(["--clear-groups", "--inh-caps=-all"]);
        }
        command.args(["--pdeathsig", death_signal, "--"]).arg(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
        for name in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Whether the account can get at `path`, as far as the permissions of the directories above it tell.
    pub fn can_reach(&self, path: &Path) -> bool {
        match self {
            Self::Myself { .. } => true,
            Self::Account { uid, .. } => path.ancestors().skip(1).all(|above| match fs::metadata(above) {
                Ok(found) => found.mode() & 0o001 != 0 || found.uid() == *uid,
                Err(_) => above.as_os_str() == OsStr::new(""),
            }),
        }
    }
}

/// Our own effective user id.
pub fn my_uid() -> anyhow::Result<u32> {
    let myself = fs::metadata("/proc/self").context("failed to look at /proc/self (is /proc mounted?)")?;
    Ok(myself.uid())
}

/// The uid and gid of an account, from the text of `/etc/passwd`.
fn account(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let (uid, gid) = (fields.nth(1)?, fields.next()?);
        if found { Some((uid.parse().ok()?, gid.parse().ok()?)) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken\nnobody:x:65534:65533::/nonexistent:/bin/sh\n";

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        assert_eq!(account(PASSWD, "nobody"), Some((65534, 65533)));
        assert_eq!(account(PASSWD, "no"), None);
        assert_eq!(account(PASSWD, "postgres"), None);
    }

    #[test]
    fn no_server_runs_as_root() {
        assert_ne!(ServerUser::choose().unwrap().uid(), 0);
    }

    #[test]
    fn an_account_can_not_reach_into_a_closed_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory =
            std::env::temp_dir().join(format!("watchbell-{}", super::super::token::random_hex(8).unwrap()));
        fs::create_dir(&directory).unwrap();
        let account = ServerUser::Account { uid: 65534, gid: 65534 };
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!account.can_reach(&directory.join("x")));
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).unwrap();
        assert!(account.can_reach(&directory.join("x")));
        fs::remove_dir(&directory).unwrap();
    }
}
