//! What the kernel says of a process and of the machine, in /proc.

/// The value of `name: value` or `name : value`.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// The number of `name: 123 kB`, as in /proc/meminfo and /proc/PID/status.
pub fn kib_of(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split_whitespace().next()?.parse().ok()
}

/// A process's memory in MB (10⁶ bytes): `VmRSS` is what it holds now, `VmHWM` the most that it ever held. 0 if it is gone.
pub fn memory_mb(pid: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kib_of(&status, name).unwrap_or_default() as f64 * 1024.0 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let status = "Name:\twatchbell\nVmPeak:\t  9 kB\nVmHWM:\t   55184 kB\n";
        assert_eq!(kib_of(status, "VmHWM"), Some(55_184));
        assert_eq!(kib_of(status, "VmSwap"), None);
        assert_eq!(field("model name\t: Fast(R) CPU\n", "model name"), Some("Fast(R) CPU"));
        assert!(memory_mb(std::process::id(), "VmRSS") > 0.1);
    }
}
