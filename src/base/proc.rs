//! What the kernel says about this process and its machine: `/proc`, read in one place.
//!
//! Like the clock it can be asked from any floor, since it says what is and changes nothing; who needs
//! a test to decide what it says takes the answer as an argument.

use std::fs;

/// A small file, or nothing.
fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

/// The number of a line `name   number kB` of a file, in bytes.
fn bytes_of(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The process's number.
pub fn id() -> u32 {
    std::process::id()
}

/// Bytes of the process that are resident.
pub fn resident_bytes() -> u64 {
    bytes_of("/proc/self/status", "VmRSS:")
}

/// Bytes of memory that the machine has.
pub fn memory_total() -> u64 {
    bytes_of("/proc/meminfo", "MemTotal:")
}

/// The system's name, its release, and the processor's architecture.
pub fn system() -> String {
    let kernel = |name: &str| read(&format!("/proc/sys/kernel/{name}"));
    format!("{} {} {}", kernel("ostype"), kernel("osrelease"), std::env::consts::ARCH)
}

/// Processor seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// In the kernel.
    pub system: f64,
    /// Outside of it.
    pub user: f64,
    /// Those of children that have ended.
    pub children_system: f64,
    /// See `children_system`.
    pub children_user: f64,
}

/// What the process has used.
pub fn cpu() -> Cpu {
    cpu_of(&read("/proc/self/stat"))
}

/// What its first thread has.
pub fn cpu_of_main_thread() -> Cpu {
    cpu_of(&read(&format!("/proc/self/task/{}/stat", id())))
}

fn cpu_of(stat: &str) -> Cpu {
    /// What the kernel counts these in for user space, on every architecture we run on.
    const TICKS_PER_SECOND: f64 = 100.0;
    // The name before the parenthesis may hold anything; state is the first field after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let seconds = |at: usize| {
        let ticks = fields.get(at).and_then(|field| field.parse::<f64>().ok());
        ticks.unwrap_or(0.0) / TICKS_PER_SECOND
    };
    Cpu {
        system: seconds(12),
        user: seconds(11),
        children_system: seconds(14),
        children_user: seconds(13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_anything() {
        let stat = "7 (a) 1 2) S 1 7 7 0 -1 4194560 100 0 0 0 250 125 4 3 20 0 1 0 100";
        let cpu = cpu_of(stat);
        assert_eq!((cpu.user, cpu.system), (2.5, 1.25));
        assert_eq!((cpu.children_user, cpu.children_system), (0.04, 0.03));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes() > 0 && memory_total() > resident_bytes());
    }
}
