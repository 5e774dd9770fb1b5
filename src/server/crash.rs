//! The report of a crash: what ran, on which shard, where in the code. Then the process ends, whole:
//! a shard that is gone would leave its keys unreachable and its clients hanging.
//!
//! A panic is reported by the thread that panics, before anything unwinds. A signal (SIGSEGV, SIGBUS,
//! SIGFPE, SIGILL, SIGTRAP, or SIGABRT, as which a failed allocation arrives) finds its thread in any
//! state, perhaps within the allocator. So its handler only reads cells and writes bytes, and hands
//! the addresses of its stack to a thread that waits for just that: names are looked up there, with
//! all the memory that takes, and if that thread cannot do it any more, the rest of the report is out
//! already.

use super::logs;
use crate::base::clock;
use crate::base::doing::{self, Doing};
use crate::base::version::VERSION;
use crate::command;
use crate::config::Config;
use crash_handler::{CrashContext, CrashEventResult, CrashHandler};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use std::backtrace::Backtrace;
use std::ffi::CString;
use std::fmt::{self, Write as _};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

const START: &str = "\n\n=== REDSHARD BUG REPORT START: Cut & paste starting from here ===\n";
const END: &str = "\n=== REDSHARD BUG REPORT END. Make sure to include from START to END. ===\n\n";
const STACK: &str = "\n------ STACK TRACE ------\n";
const STACK_END: &str = "------ STACK TRACE DONE ------\n";

/// Stack frames that a signal's report shows.
const FRAMES_MAX: usize = 64;
/// Bytes of the part of a report that is composed in a signal handler: its stack is small.
const HEAD_MAX: usize = 1024;
/// How long a signal handler waits for the names of its frames.
const NAMES_WITHIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How long a second thread that crashes leaves the first to its report.
const REPORT_WITHIN: Duration = Duration::from_secs(10);

/// Somebody reports already.
static REPORTING: AtomicBool = AtomicBool::new(false);
/// `crash-log-enabled`.
static SIGNALS: AtomicBool = AtomicBool::new(true);
static STARTED_MS: AtomicI64 = AtomicI64::new(0);

/// What a signal handler needs, made while there was time.
static READY: OnceLock<Ready> = OnceLock::new();

struct Ready {
    /// The log file's name, as the kernel takes it.
    file: Option<CString>,
    frames: PipeWriter,
    named: PipeReader,
}

/// Reports every crash from now on. Called once the process is the one that will serve.
///
/// # Errors
/// When what the report of a signal needs cannot be had; panics are reported all the same.
pub fn install(config: &Config) -> io::Result<()> {
    STARTED_MS.store(clock::unix_us() / 1000, Ordering::Relaxed);
    follow(config);
    std::panic::set_hook(Box::new(on_panic));
    let (frames_in, frames) = io::pipe()?;
    let (named, named_out) = io::pipe()?;
    std::thread::Builder::new()
        .name("crash-report".to_owned())
        .spawn(move || name_frames(frames_in, named_out))?;
    let file = logs::file().and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
    if READY.set(Ready { file, frames, named }).is_err() {
        return Ok(());
    }
    // SAFETY: `on_signal` runs in a compromised context. (1) It takes no lock and no memory: it reads
    // thread-local cells without destructors, atomics, statics and what READY holds, formats numbers
    // and static texts into an array on its stack, and calls write, open, poll and clock_gettime;
    // (2) it does not unwind: nothing in it panics, and its array truncates instead of growing.
    let event = unsafe { crash_handler::make_crash_event(on_signal) };
    let handler = CrashHandler::attach(event).map_err(io::Error::other)?;
    // For as long as the process lives: dropping it would detach it.
    std::mem::forget(handler);
    Ok(())
}

/// Follows a change of the configuration.
pub fn follow(config: &Config) {
    SIGNALS.store(config.crash_log_enabled(), Ordering::Relaxed);
}

fn on_panic(panic: &PanicHookInfo) {
    if REPORTING.swap(true, Ordering::AcqRel) {
        // The first to report ends the process; should it hang, this one does.
        std::thread::sleep(REPORT_WITHIN);
        std::process::abort();
    }
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("for no given reason");
    let place = panic.location().map_or_else(String::new, ToString::to_string);
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let mut report = String::from(START);
    let line = |report: &mut String, text: fmt::Arguments| {
        report.push_str(&logs::warning(&text.to_string()));
    };
    line(&mut report, format_args!("Redshard {VERSION} panicked at {place}: {text}"));
    let now = Now { doing: doing::what(), up_ms: up_ms() };
    line(&mut report, format_args!("{now}, in thread {name}"));
    let stack = Backtrace::force_capture();
    let _ = write!(report, "{STACK}{stack}{STACK_END}{END}");
    report.push_str(&logs::warning(
        "Redshard ends: what panicked cannot go on, so nothing does, lest some keys be gone and others not.",
    ));
    logs::report(&report);
    std::process::abort();
}

/// What is done now, as a report words it.
struct Now {
    doing: Doing,
    up_ms: i64,
}

fn up_ms() -> i64 {
    clock::unix_us() / 1000 - STARTED_MS.load(Ordering::Relaxed)
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Doing { shard, command, client } = self.doing;
        match command::all().get(usize::from(command)) {
            Some(command) => write!(f, "Running command {}", command.name)?,
            None => f.write_str("Running no command")?,
        }
        match client {
            0 => {}
            client => write!(f, " of client {client}")?,
        }
        match shard {
            doing::NONE => f.write_str(", on no shard")?,
            shard => write!(f, ", on shard {shard}")?,
        }
        write!(f, ", up {}.{:03} s", self.up_ms / 1000, self.up_ms.rem_euclid(1000))
    }
}

// ---- signals ---------------------------------------------------------------------------------

/// See the promises in [`install`].
fn on_signal(context: &CrashContext) -> CrashEventResult {
    // Handled in any case: the default action follows, which ends the process by this signal.
    let done = CrashEventResult::Handled(true);
    // A panic that has been reported ends as SIGABRT.
    if !SIGNALS.load(Ordering::Relaxed) || REPORTING.swap(true, Ordering::AcqRel) {
        return done;
    }
    let Some(ready) = READY.get() else { return done };
    let (pid, now_s) = (context.pid, clock::unix_us() / 1_000_000);
    let info = &context.siginfo;
    let mut head = Text::default();
    let mut say = |text: fmt::Arguments| {
        // What does not fit any more is left out.
        let _ = head.write_fmt(text);
    };
    say(format_args!("{START}"));
    say(format_args!(
        "{pid}:signal-handler ({now_s}) # Redshard {VERSION} crashed by signal: {}, si_code: {}\n",
        info.ssi_signo, info.ssi_code
    ));
    // The crate copies the kernel's siginfo_t over a signalfd_siginfo: what lies behind the code on a
    // 64-bit machine, from its 16th byte on, is called `uid` and `fd` there.
    let (first, second) = (info.ssi_uid, info.ssi_fd as u32);
    if info.ssi_code > 0 {
        let address = u64::from(second) << 32 | u64::from(first);
        say(format_args!("{pid}:signal-handler ({now_s}) # Accessing address: {address:#x}\n"));
    } else {
        say(format_args!(
            "{pid}:signal-handler ({now_s}) # Killed by PID: {first}, UID: {second}\n"
        ));
    }
    let now = Now { doing: doing::what(), up_ms: up_ms() };
    let thread = context.tid;
    say(format_args!("{pid}:signal-handler ({now_s}) # {now}, in thread {thread}\n{STACK}"));
    ready.write(head.bytes());

    let mut frames = [0; FRAMES_MAX * size_of::<usize>()];
    let mut used = 0;
    // SAFETY: (1) frames are only looked at from this thread, which is in this handler; (2) the
    // closure copies an address into an array and stops at its end. Another thread that walks its
    // own stack at the same time shares nothing with this walk: no symbol is looked up here.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let address = (frame.ip() as usize).to_ne_bytes();
            match frames.get_mut(used..used + address.len()) {
                Some(place) => {
                    place.copy_from_slice(&address);
                    used += address.len();
                    true
                }
                None => false,
            }
        });
    }
    // One write of less than a page: it arrives whole.
    let _ = rustix::io::write(&ready.frames, &frames[..used]);
    let mut named = [PollFd::new(&ready.named, PollFlags::IN)];
    let _ = poll(&mut named, Some(&NAMES_WITHIN));
    ready.write(STACK_END.as_bytes());
    ready.write(END.as_bytes());
    done
}

impl Ready {
    /// Writes to the log and to standard error. What cannot be written is lost.
    fn write(&self, bytes: &[u8]) {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        let file =
            self.file.as_deref().map(|path| rustix::fs::open(path, flags, Mode::from(0o644)));
        match file {
            Some(Ok(file)) => _ = rustix::io::write(&file, bytes),
            Some(Err(_)) => {}
            None => _ = rustix::io::write(rustix::stdio::stdout(), bytes),
        }
        if !logs::stderr_is_the_log() {
            let _ = rustix::io::write(rustix::stdio::stderr(), bytes);
        }
    }
}

/// The thread that waits for the addresses of a crashed one's frames.
fn name_frames(mut frames: PipeReader, mut named: PipeWriter) {
    let mut bytes = [0; FRAMES_MAX * size_of::<usize>()];
    let Ok(used) = frames.read(&mut bytes) else { return };
    for (number, address) in bytes[..used].chunks_exact(size_of::<usize>()).enumerate() {
        let address = usize::from_ne_bytes(address.try_into().unwrap_or_default());
        let mut text = format!("{number:4}: {address:#x}\n");
        // Several where functions were inlined.
        backtrace::resolve(address as *mut _, |symbol| {
            match symbol.name() {
                Some(name) => _ = write!(text, "      {name:#}"),
                None => text.push_str("      ?"),
            }
            if let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) {
                let _ = write!(text, " at {}:{line}", file.display());
            }
            text.push('\n');
        });
        if let Some(ready) = READY.get() {
            ready.write(text.as_bytes());
        }
    }
    let _ = named.write_all(b".");
}

/// Text in an array; what does not fit is cut off.
struct Text {
    bytes: [u8; HEAD_MAX],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: [0; HEAD_MAX], len: 0 }
    }
}

impl Text {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let fits = text.len().min(room.len());
        room[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output, Stdio};

    /// Runs one test of this file in a process of its own, in which it may crash.
    fn crash(test: &str) -> Option<Output> {
        const MARK: &str = "REDSHARD_TEST_CRASHES";
        if std::env::var_os(MARK).is_some() {
            return None;
        }
        let mut process = Command::new(std::env::current_exe().expect("the test's own path"));
        process.args(["--exact", &format!("server::crash::tests::{test}"), "--nocapture"]);
        process.env(MARK, "1").stdin(Stdio::null());
        Some(process.output().expect("run the test once more"))
    }

    fn begin() {
        let config = Config::default();
        logs::open(&config).expect("log to standard output");
        install(&config).expect("prepare for a crash");
    }

    fn as_shard(body: impl FnOnce() + Send + 'static) {
        let shard = std::thread::Builder::new().name("shard-1".to_owned()).spawn(|| {
            doing::shard(1);
            let get = command::find(b"get").expect("GET");
            doing::command_of(get.id, 42);
            body();
        });
        // It does not come back.
        let _ = shard.expect("start a thread").join();
        std::thread::sleep(Duration::from_secs(60));
    }

    /// Checks that a report says this, and that its stack has that function.
    fn check(output: &Output, wanted: &[&str], function: &str) {
        let said =
            String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        for text in wanted {
            assert!(said.contains(text), "{text:?} is missing in:\n{said}");
        }
        let stack = said.split(STACK.trim()).nth(1).and_then(|rest| rest.split(STACK_END).next());
        assert!(stack.is_some_and(|stack| stack.contains(function)), "{function} in:\n{said}");
        assert!(!output.status.success(), "{:?}", output.status);
        assert_eq!(
            said.matches("BUG REPORT END").count() % 2,
            0,
            "in the log and on stderr:\n{said}"
        );
    }

    #[test]
    fn a_panic_ends_the_process_with_a_report() {
        let Some(output) = crash("a_panic_ends_the_process_with_a_report") else {
            begin();
            return as_shard(|| {
                let nothing: Vec<u8> = Vec::new();
                let at = std::hint::black_box(3);
                std::hint::black_box(nothing[at]);
            });
        };
        check(
            &output,
            &[
                "BUG REPORT START",
                "panicked at src/server/crash.rs",
                "index out of bounds",
                "Running command GET of client 42, on shard 1, up 0.",
                "in thread shard-1",
            ],
            "a_panic_ends_the_process_with_a_report",
        );
    }

    #[test]
    fn a_signal_is_reported_with_its_stack() {
        let Some(output) = crash("a_signal_is_reported_with_its_stack") else {
            begin();
            return as_shard(|| std::process::abort());
        };
        check(
            &output,
            &["crashed by signal: 6", "Running command GET of client 42, on shard 1, up 0."],
            "a_signal_is_reported_with_its_stack",
        );
    }

    #[test]
    fn text_is_cut_off_where_there_is_no_room() {
        let mut text = Text::default();
        assert!(text.write_str("begin ").is_ok());
        assert!(write!(text, "{}", "x".repeat(HEAD_MAX)).is_err());
        assert_eq!(text.bytes().len(), HEAD_MAX);
        assert!(text.bytes().starts_with(b"begin xxx"));
    }
}
