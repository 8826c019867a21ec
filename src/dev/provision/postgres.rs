//! The PostgreSQL server programs.
//!
//! Owns where they are looked for: `$PG_BIN_DIR`, then the newest below `/usr/lib/postgresql`, then `PATH`, then
//! Debian's package. Invariant: what is returned has `postgres` and `initdb` side by side and is version 15 or newer.
//! [`crate::dev::postgres`] calls it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::apt::{self, Privilege};

/// Names a directory with the programs, to be used instead of looking for them.
pub const OVERRIDE: &str = "PG_BIN_DIR";
/// The oldest major version that will do.
pub const OLDEST: u32 = 15;
const PACKAGE: &str = "postgresql";
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";
const CLUSTER_CONF: &str = "/etc/postgresql-common/createcluster.conf";
const CLUSTER_CONF_TEXT: &str = "\
# Written before PostgreSQL was installed for private development servers: no cluster on port 5432 was wanted.
create_main_cluster = false
";

/// The server programs of one PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresPrograms {
    /// The directory that `postgres` and `initdb` are in.
    pub directory: PathBuf,
    /// The major version.
    pub major: u32,
}

impl PostgresPrograms {
    /// The path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The programs that are on this machine; installs Debian's where there are none.
pub async fn find_or_install() -> anyhow::Result<PostgresPrograms> {
    if let Some(found) = find().await? {
        return Ok(found);
    }
    let privilege = Privilege::detect().await?;
    if privilege == Privilege::None || !apt::is_here().await {
        bail!(
            "PostgreSQL {OLDEST} or newer is not installed, and we can't install it: this user is neither root nor may use \
             `sudo` without a password. Run `sudo -v`, or have an administrator run \
             `apt-get update && apt-get install --no-install-recommends postgresql`, and then run this command again; \
             or set {OVERRIDE} to a directory that holds `postgres` and `initdb`"
        );
    }
    let offered = apt::candidate(privilege, PACKAGE).await?;
    if leading_number(&offered).is_some_and(|major| major < OLDEST) {
        bail!(
            "apt-get offers PostgreSQL {offered} here, and {OLDEST} or newer is needed: add the PostgreSQL project's own \
             packages (https://wiki.postgresql.org/wiki/Apt), or set {OVERRIDE} to the programs of a newer one"
        );
    }
    eprintln!("installing PostgreSQL with apt-get (once; takes a minute) ...");
    // Before the package is there, so that it makes no cluster and starts no server on the usual port.
    apt::append_once(privilege, CLUSTER_CONF, CLUSTER_CONF_TEXT).await?;
    apt::install(privilege, PACKAGE).await?;
    let found = find().await?;
    found.with_context(|| format!("PostgreSQL was installed, but its programs are not below {DEBIAN_ROOT}"))
}

/// The programs that are on this machine, if there are any of a version that will do.
pub async fn find() -> anyhow::Result<Option<PostgresPrograms>> {
    if let Some(directory) = std::env::var_os(OVERRIDE).filter(|directory| !directory.is_empty()) {
        let directory = PathBuf::from(directory);
        let found =
            look_into(&directory).await.with_context(|| format!("{OVERRIDE} is set, but it won't do"))?;
        if found.major < OLDEST {
            bail!("{OVERRIDE} is set to PostgreSQL {}, and {OLDEST} or newer is needed", found.major);
        }
        return Ok(Some(found));
    }
    for directory in installed(Path::new(DEBIAN_ROOT)).into_iter().chain(on_path()) {
        if let Ok(found) = look_into(&directory).await
            && found.major >= OLDEST
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The programs of exactly this version, if Debian's package of it is installed: for data that was made by it.
pub async fn find_major(major: u32) -> Option<PostgresPrograms> {
    let directory = Path::new(DEBIAN_ROOT).join(major.to_string()).join("bin");
    look_into(&directory).await.ok().filter(|found| found.major == major)
}

async fn look_into(directory: &Path) -> anyhow::Result<PostgresPrograms> {
    for program in ["postgres", "initdb"] {
        if !directory.join(program).is_file() {
            bail!("there is no `{program}` in {}", directory.display());
        }
    }
    let output = apt::run(Command::new(directory.join("postgres")).arg("--version")).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    match major_version(&said) {
        Some(major) => Ok(PostgresPrograms { directory: directory.to_owned(), major }),
        None => bail!("can't tell the version of PostgreSQL from {:?}", said.trim()),
    }
}

/// Debian's `<root>/<major>/bin`, the highest first.
fn installed(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut majors: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.into_iter().map(|major| root.join(major.to_string()).join("bin")).collect()
}

/// Where `PATH` leads; what stands there may be a link, and `initdb` is beside what it points to.
fn on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|directory| {
            fs::canonicalize(directory.join("postgres")).ok()?.parent().map(Path::to_owned)
        })
        .collect()
}

/// `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`, `postgres (PostgreSQL) 18beta1` → the major version.
fn major_version(said: &str) -> Option<u32> {
    leading_number(said.split_whitespace().nth(2)?)
}

/// `15.13`, `18beta1`, and a package's `15+248+deb12u2` → the major version.
fn leading_number(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_version("postgres\n"), None);
        assert_eq!(leading_number("14+238"), Some(14));
    }

    #[test]
    fn the_highest_installed_version_comes_first() {
        let root =
            std::env::temp_dir().join(format!("watchbell-{}", crate::dev::token::random_hex(8).unwrap()));
        for name in ["9", "15", "17", "common"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let expected: Vec<_> = ["17", "15", "9"].iter().map(|major| root.join(major).join("bin")).collect();
        assert_eq!(installed(&root), expected);
        fs::remove_dir_all(&root).unwrap();
    }

    #[tokio::test]
    async fn a_directory_without_the_programs_is_named() {
        let error = look_into(Path::new("/nowhere")).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
