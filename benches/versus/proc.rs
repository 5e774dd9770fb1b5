//! What the kernel says about a process, and what we ask of it: processor
//! time, memory, cores, priority, open files.
//!
//! Processor time comes from `schedstat`, which counts nanoseconds per thread.
//! It is the figure that two servers sharing a machine with a load generator
//! can be compared by: throughput also measures the load and the neighbours.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::Outcome;

/// Nanoseconds one thread has run, and has been runnable but kept waiting.
#[derive(Clone, Copy, Default)]
struct Sched {
    ran_ns: u64,
    waited_ns: u64,
}

impl Sched {
    fn parse(text: &str) -> Option<Sched> {
        let mut fields = text.split_ascii_whitespace();
        Some(Sched {
            ran_ns: fields.next()?.parse().ok()?,
            waited_ns: fields.next()?.parse().ok()?,
        })
    }
}

/// The counters of all threads of a process at one moment.
pub struct CpuSample(BTreeMap<u32, Sched>);

/// What all threads together did between two samples.
#[derive(Clone, Copy)]
pub struct CpuUsed {
    pub ran: Duration,
    /// Runnable but off its core. With the server alone on its core this is
    /// near zero; otherwise something else on the machine took the core.
    pub waited: Duration,
}

impl CpuSample {
    pub fn take(pid: u32) -> Outcome<CpuSample> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let id = entry.file_name().to_string_lossy().parse()?;
            let sched = Sched::parse(&text).ok_or(
                "/proc/PID/task/TID/schedstat is empty: the kernel lacks CONFIG_SCHED_INFO",
            )?;
            threads.insert(id, sched);
        }
        Ok(CpuSample(threads))
    }

    /// Threads that were born since `earlier` count from zero; threads that
    /// died are not counted, and no server here ends threads while serving.
    pub fn since(&self, earlier: &CpuSample) -> CpuUsed {
        let mut used = CpuUsed { ran: Duration::ZERO, waited: Duration::ZERO };
        for (id, now) in &self.0 {
            let then = earlier.0.get(id).copied().unwrap_or_default();
            used.ran += Duration::from_nanos(now.ran_ns.saturating_sub(then.ran_ns));
            used.waited += Duration::from_nanos(now.waited_ns.saturating_sub(then.waited_ns));
        }
        used
    }
}

/// Reads the same counters through files held open, cheap enough for a probe
/// to read before every request.
pub struct CpuWatch {
    files: Vec<File>,
    last: Vec<Sched>,
}

impl CpuWatch {
    /// Watches the threads the process has now.
    pub fn open(pid: u32) -> Outcome<CpuWatch> {
        let mut files = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            files.push(File::open(entry?.path().join("schedstat"))?);
        }
        Ok(CpuWatch::of(files))
    }

    /// Watches only the thread that calls.
    pub fn open_this_thread() -> Outcome<CpuWatch> {
        Ok(CpuWatch::of(vec![File::open("/proc/thread-self/schedstat")?]))
    }

    fn of(files: Vec<File>) -> CpuWatch {
        let last = vec![Sched::default(); files.len()];
        let mut watch = CpuWatch { files, last };
        watch.mark();
        watch
    }

    /// Remembers the counters as they are now.
    pub fn mark(&mut self) {
        for index in 0..self.files.len() {
            self.last[index] = self.read(index);
        }
    }

    /// How long, since the mark, a thread was kept off its core by somebody
    /// else. Time taken by the server's own other threads is not deducted: a
    /// server whose background thread starves its main thread did that itself.
    pub fn kept_waiting_by_others(&self) -> Duration {
        let changes: Vec<Sched> = (0..self.files.len())
            .map(|index| {
                let now = self.read(index);
                Sched {
                    ran_ns: now.ran_ns.saturating_sub(self.last[index].ran_ns),
                    waited_ns: now.waited_ns.saturating_sub(self.last[index].waited_ns),
                }
            })
            .collect();
        let ran_ns: u64 = changes.iter().map(|change| change.ran_ns).sum();
        let longest_ns = changes
            .iter()
            .map(|change| change.waited_ns.saturating_sub(ran_ns - change.ran_ns))
            .max();
        Duration::from_nanos(longest_ns.unwrap_or(0))
    }

    /// A thread that has ended reads as it was last seen.
    fn read(&self, index: usize) -> Sched {
        let mut text = [0u8; 96];
        self.files[index]
            .read_at(&mut text, 0)
            .ok()
            .and_then(|length| Sched::parse(std::str::from_utf8(&text[..length]).ok()?))
            .unwrap_or(self.last[index])
    }
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS line: the server has ended")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Processor time of the calling thread.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, exclusively borrowed timespec; the call only
    // writes to it. It can't fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The cores this process may use, in ascending order.
pub fn allowed_cores() -> Outcome<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: `set` is a valid, exclusively borrowed cpu_set_t of the size
    // passed; pid 0 is the calling thread.
    let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if status != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok((0..libc::CPU_SETSIZE as usize)
        .filter(|&core| {
            // SAFETY: `core` is below CPU_SETSIZE, so the bit lies in the set.
            unsafe { libc::CPU_ISSET(core, &set) }
        })
        .collect())
}

/// Confines the calling thread, and the threads and processes it will start,
/// to `cores`. Allocates nothing, so it may run between fork and exec.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = empty_set();
    for &core in cores {
        if core >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: `core` was just checked to lie in the set.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: `set` is a valid cpu_set_t of the size passed, only read.
    let status = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is an array of integers; all zeroes is the empty set.
    unsafe { std::mem::zeroed() }
}

/// Lets the calling thread run as soon as it can, ahead of the load that
/// shares its core. Returns what was granted, for the report to say.
pub fn run_first() -> &'static str {
    // SAFETY: sched_param is plain integers, for which zeroes are valid.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = 1;
    // SAFETY: `param` is a valid sched_param, only read; pid 0 is this thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) } == 0 {
        return "real-time priority";
    }
    // SAFETY: takes integers only; id 0 is the calling thread on Linux.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) } == 0 {
        return "nice -20";
    }
    "no priority: the load delays it"
}

/// Raises the soft limit of open files as far as allowed, for this process and
/// the servers it starts. Returns the limit reached.
pub fn raise_open_files() -> Outcome<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, exclusively borrowed rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit, only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(limit.rlim_cur)
}

/// Asks the kernel to kill the calling process when the thread that started it
/// ends, however that happens. Meant for between fork and exec.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes one integer and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The processor and the kernel in one line, for the head of a report.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, Linux {}", kernel.trim())
}
