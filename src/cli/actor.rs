//! Who types a command: the user of the operating system, for `admin_actions`.

use std::os::unix::fs::MetadataExt;

/// The name of the user that this process runs as; with whoever used sudo, if somebody did. What the kernel says, not
/// the environment: `USER` can be anything.
pub fn name() -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = match std::fs::metadata("/proc/self") {
        Ok(process) => name_of(process.uid(), &passwd),
        Err(_) => "unknown".to_owned(),
    };
    match std::env::var("SUDO_USER") {
        Ok(person) if user == "root" && !person.is_empty() => format!("{person} (sudo)"),
        _ => user,
    }
}

fn name_of(uid: u32, passwd: &str) -> String {
    let uid = uid.to_string();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = entry
        .filter(|fields| fields.get(2) == Some(&uid.as_str()))
        .find_map(|fields| fields.first().copied());
    found.map_or_else(|| format!("uid {uid}"), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_and_one_without_a_name_is_numbered() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nanna:x:1000:100::/home/anna:/bin/sh\n";
        assert_eq!(name_of(1000, passwd), "anna");
        assert_eq!(name_of(100, passwd), "uid 100");
        assert!(!name().is_empty());
    }
}
