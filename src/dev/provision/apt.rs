//! apt-get, for who may use it.
//!
//! Owns how Debian packages are installed and unpacked. Invariant: it never asks anything and never starts a service
//! of its own accord; as root it goes straight, as another user through `sudo -n`, and otherwise not at all.
//! [`super::postgres`] and [`super::nats`] call it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use crate::dev::user::my_uid;

/// What is kept of a failed command's output for the error message.
const OUTPUT_TAIL_LINES: usize = 15;
/// How long another apt is waited for: five minutes.
const LOCK_ATTEMPTS: usize = 150;
const LOCK_RETRY: Duration = Duration::from_secs(2);

/// Whether, and how, this user can administer the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// We are root.
    Root,
    /// `sudo` works without asking for a password.
    Sudo,
    /// Neither.
    None,
}

impl Privilege {
    /// Finds out.
    pub async fn detect() -> anyhow::Result<Self> {
        if my_uid()? == 0 {
            return Ok(Self::Root);
        }
        let mut probe = Command::new("sudo");
        probe.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match probe.status().await {
            Ok(status) if status.success() => Ok(Self::Sudo),
            _ => Ok(Self::None),
        }
    }

    /// `program`, to be run as root; `None` when we can't.
    fn command(self, program: &str) -> Option<Command> {
        match self {
            Self::Root => Some(Command::new(program)),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", program]);
                Some(command)
            }
            Self::None => None,
        }
    }
}

/// Whether this machine has apt-get at all.
pub async fn is_here() -> bool {
    run(Command::new("apt-get").arg("--version")).await.is_ok()
}

/// Installs a package with what it depends on, reading the package lists anew if that is needed.
pub async fn install(privilege: Privilege, package: &str) -> anyhow::Result<()> {
    let mut result = install_once(privilege, package).await;
    if result.is_err() {
        // Old lists name versions that the mirror no longer has.
        update(privilege).await?;
        result = install_once(privilege, package).await;
    }
    result.with_context(|| format!("failed to install the package {package}"))
}

/// The version of a package that an installation would bring, reading the package lists anew if they know none.
pub async fn candidate(privilege: Privilege, package: &str) -> anyhow::Result<String> {
    if let Some(version) = listed(package).await {
        return Ok(version);
    }
    // One source that can't be read fails the whole update; the others may have brought what is wanted.
    let updated = update(privilege).await;
    match (listed(package).await, updated) {
        (Some(version), _) => Ok(version),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => bail!("apt-get knows no package {package}"),
    }
}

/// Downloads a package and unpacks it into `directory` without installing it, so that no service of it starts.
pub async fn unpack(privilege: Privilege, package: &str, directory: &Path) -> anyhow::Result<()> {
    candidate(privilege, package).await?;
    let download = || async {
        run(Command::new("apt-get").args(["-q", "download", package]).current_dir(directory)).await
    };
    if download().await.is_err() {
        update(privilege).await?;
        download().await.with_context(|| format!("failed to download the package {package}"))?;
    }
    let file = downloaded(directory)?;
    run(Command::new("dpkg").arg("-x").arg(&file).arg(directory)).await?;
    std::fs::remove_file(&file).with_context(|| format!("failed to remove {}", file.display()))
}

/// Appends `text` to a file as root, making it if need be, unless its last line is in the file already.
pub async fn append_once(privilege: Privilege, path: &str, text: &str) -> anyhow::Result<()> {
    let mut command = privilege.command("sh").context("only root can do that")?;
    let script = r#"grep -qsxF -- "$3" "$1" || { mkdir -p "${1%/*}" && printf %s "$2" >> "$1"; }"#;
    let last = text.trim_end().lines().last().unwrap_or_default();
    run(command.args(["-c", script, "sh", path, text, last])).await.map(drop)
}

async fn update(privilege: Privilege) -> anyhow::Result<()> {
    let Some(mut command) = privilege.command("apt-get") else {
        bail!("the package lists are missing or old, and only root can read them anew (`apt-get update`)");
    };
    eprintln!("reading the package lists with apt-get update ...");
    for _ in 0..LOCK_ATTEMPTS {
        match run(command.args(["-q", "update"]).env("LC_ALL", "C")).await {
            // Unlike an installation, an update doesn't wait for another apt; one runs when a machine has just booted.
            Err(error) if error.to_string().contains("Could not get lock") => {
                tokio::time::sleep(LOCK_RETRY).await;
                let Some(again) = privilege.command("apt-get") else { return Err(error) };
                command = again;
            }
            result => return result.map(drop).context("failed to read the package lists"),
        }
    }
    bail!("failed to read the package lists: another apt-get has been at it for minutes")
}

async fn install_once(privilege: Privilege, package: &str) -> anyhow::Result<()> {
    let mut command = privilege.command("env").context("only root can install packages")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "--no-install-recommends"]);
    // Another apt may be at work, as on a machine that has just booted; and a configuration file of ours stays.
    command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confdef"]);
    command.args(["-o", "Dpkg::Options::=--force-confold", "install", package]);
    run(&mut command).await.map(drop)
}

/// The version that the package lists on this machine offer.
async fn listed(package: &str) -> Option<String> {
    let output = run(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package])).await.ok()?;
    named_candidate(&String::from_utf8_lossy(&output.stdout)).map(str::to_owned)
}

fn named_candidate(policy: &str) -> Option<&str> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then_some(version)
}

fn downloaded(directory: &Path) -> anyhow::Result<PathBuf> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("apt-get download left no package in {}", directory.display())
}

/// Runs a command to its end; the end of what it said is the error when it fails.
///
/// The command is not killed with us: an installation that is cut short leaves the machine worse than one that ends.
pub(super) async fn run(command: &mut Command) -> anyhow::Result<Output> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().await;
    let output = output.with_context(|| format!("failed to run `{shown}`"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("`{shown}` failed ({}):\n{}", output.status, tail(&String::from_utf8_lossy(&said)));
    }
    Ok(output)
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words: Vec<OsString> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsString::from).collect();
    words.join(" ".as_ref()).to_string_lossy().into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(OUTPUT_TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_candidate_needs_new_lists() {
        assert_eq!(
            named_candidate("postgresql:\n  Installed: (none)\n  Candidate: 15+248\n"),
            Some("15+248")
        );
        assert_eq!(named_candidate("postgresql:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(named_candidate(""), None);
    }

    #[tokio::test]
    async fn a_failed_command_says_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo nothing there >&2; exit 3"])).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("nothing there") && error.contains('3'), "{error}");
    }
}
