//! The log, in the lines that Redis writes: `PID:M 24 Nov 2026 10:00:00.123 * text`.
//!
//! Levels, from Redis to `tracing`: debug `.` is TRACE, verbose `-` is DEBUG, notice `*` is INFO,
//! warning `#` is WARN and ERROR. A log file is opened for every line: whoever rotates logs may
//! rename or remove it at any time, and the next line makes a new one.

use crate::config::Config;
use crate::config::typed::{LogFormat, LogLevel, LogTimestamp};
use jiff::Zoned;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

/// There is one log per process.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    /// The file, absolute, so that a change of directory does not move it.
    file: Option<PathBuf>,
    style: RwLock<Style>,
    level: reload::Handle<LevelFilter, Registry>,
}

/// What CONFIG SET may change.
#[derive(Clone, Copy, Debug)]
struct Style {
    level: LogLevel,
    format: LogFormat,
    timestamp: LogTimestamp,
}

impl Style {
    fn of(config: &Config) -> Style {
        Style {
            level: config.loglevel(),
            format: config.log_format(),
            timestamp: config.log_timestamp_format(),
        }
    }
}

/// Begins to log as configured. Called once, in the directory that a relative `logfile` is meant
/// from.
///
/// # Errors
/// When the log file cannot be written.
pub fn open(config: &Config) -> io::Result<()> {
    let file = match config.logfile() {
        Some(path) => {
            append_to(path)?;
            Some(std::path::absolute(path)?)
        }
        None => None,
    };
    let style = Style::of(config);
    let (filter, level) = reload::Layer::new(filter(style.level));
    if LOG.set(Log { file, style: RwLock::new(style), level }).is_err() {
        return Ok(());
    }
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines)
        .with_writer(Target)
        .log_internal_errors(false);
    // Nobody else subscribes in this process; if somebody did, it keeps its log.
    let _ = tracing::subscriber::set_global_default(
        tracing_subscriber::registry().with(filter).with(lines),
    );
    Ok(())
}

/// Follows a change of the configuration.
pub fn follow(config: &Config) {
    let Some(log) = LOG.get() else { return };
    let style = Style::of(config);
    *log.style.write().unwrap_or_else(PoisonError::into_inner) = style;
    // It fails when the subscriber is gone, and then there is nobody to tell.
    let _ = log.level.reload(filter(style.level));
}

/// The file that is logged to, if it is one.
pub fn file() -> Option<&'static Path> {
    LOG.get()?.file.as_deref()
}

/// Writes text that is no line of the log, such as the logo, if notices are logged.
pub fn raw(text: &str) {
    if LOG.get().is_some_and(|log| log.style().level <= LogLevel::Notice) {
        // As with lines: if the log cannot be written, there is nowhere to say so.
        let _ = Target.write_all(text.as_bytes());
    }
}

/// A line of the log at level warning, to be part of a [`report`].
pub fn warning(text: &str) -> String {
    let style = LOG.get().map_or(Style::of(&Config::default()), Log::style);
    let mut line = String::new();
    // A string takes all.
    let _ = write_line(&mut line, style, Level::WARN, &Zoned::now(), text);
    line
}

/// Writes what must be seen whatever is configured: to the log, and to standard error.
pub fn report(text: &str) {
    // Each may be gone; then the other is what is left.
    let _ = Target.write_all(text.as_bytes());
    let _ = Target.flush();
    if !stderr_is_the_log() {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Says why the process ends before it has begun: in the log, and to whoever started it.
pub fn fatal(text: &str) {
    tracing::warn!("{text}");
    if LOG.get().is_none() || file().is_some() {
        eprintln!("{text}");
    }
}

/// Whether standard error leads where the log does, so that what is written to both would stand there
/// twice. Asks the kernel and takes no memory: a signal handler may use it.
pub fn stderr_is_the_log() -> bool {
    let same = |out: rustix::io::Result<rustix::fs::Stat>| {
        let err = rustix::fs::fstat(rustix::stdio::stderr());
        out.is_ok_and(|out| {
            err.is_ok_and(|err| (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino))
        })
    };
    file().is_none() && same(rustix::fs::fstat(rustix::stdio::stdout()))
}

impl Log {
    fn style(&self) -> Style {
        *self.style.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Where lines go: each arrives in one write, so that those of several threads do not mix.
struct Target;

impl io::Write for Target {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match file() {
            Some(path) => append_to(path)?.write_all(text)?,
            None => io::stdout().lock().write_all(text)?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match file() {
            Some(_) => Ok(()),
            None => io::stdout().lock().flush(),
        }
    }
}

impl MakeWriter<'_> for Target {
    type Writer = Target;

    fn make_writer(&self) -> Target {
        Target
    }
}

/// Writes events as lines.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(log) = LOG.get() else { return Ok(()) };
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        write_line(&mut out, log.style(), *event.metadata().level(), &Zoned::now(), &text)
    }
}

/// Writes one line, whatever its text holds.
fn write_line(
    out: &mut impl fmt::Write,
    style: Style,
    level: Level,
    now: &Zoned,
    text: &str,
) -> fmt::Result {
    let pid = std::process::id();
    let (mark, name) = match level {
        Level::TRACE => ('.', "debug"),
        Level::DEBUG => ('-', "verbose"),
        Level::INFO => ('*', "notice"),
        Level::WARN | Level::ERROR => ('#', "warning"),
    };
    let time = Time(style.timestamp, now);
    match style.format {
        LogFormat::Legacy => writeln!(out, "{pid}:M {time} {mark} {text}"),
        LogFormat::Logfmt => {
            write!(out, "pid={pid} role=primary timestamp=\"{time}\" level={name} message=\"")?;
            for c in text.chars() {
                match c {
                    // As Valkey: what would end the value or the line is replaced.
                    '"' => out.write_char('\'')?,
                    c if c.is_control() => out.write_char(' ')?,
                    c => out.write_char(c)?,
                }
            }
            out.write_str("\"\n")
        }
        LogFormat::Json => {
            write!(
                out,
                "{{\"pid\":{pid},\"role\":\"primary\",\"timestamp\":\"{time}\",\
                 \"level\":\"{name}\",\"message\":\""
            )?;
            for c in text.chars() {
                match c {
                    '"' => out.write_str("\\\"")?,
                    '\\' => out.write_str("\\\\")?,
                    '\n' => out.write_str("\\n")?,
                    '\r' => out.write_str("\\r")?,
                    '\t' => out.write_str("\\t")?,
                    '\u{8}' => out.write_str("\\b")?,
                    '\u{c}' => out.write_str("\\f")?,
                    c if c < ' ' => write!(out, "\\u{:04x}", c as u32)?,
                    c => out.write_char(c)?,
                }
            }
            out.write_str("\"}\n")
        }
    }
}

/// A time as the configuration wants it.
struct Time<'a>(LogTimestamp, &'a Zoned);

impl fmt::Display for Time<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            LogTimestamp::Legacy => self.1.strftime("%d %b %Y %H:%M:%S%.3f").fmt(f),
            LogTimestamp::Iso8601 => self.1.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").fmt(f),
            LogTimestamp::Milliseconds => self.1.timestamp().as_millisecond().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, timestamp: LogTimestamp, level: Level, text: &str) -> String {
        let offset = jiff::tz::TimeZone::fixed(jiff::tz::offset(5));
        let now = jiff::Timestamp::from_millisecond(1_795_560_671_091).expect("in range");
        let style = Style { level: LogLevel::Notice, format, timestamp };
        let mut out = String::new();
        write_line(&mut out, style, level, &now.to_zoned(offset), text)
            .expect("a string takes all");
        out.replace(&std::process::id().to_string(), "PID")
    }

    // As a real server writes them.
    #[test]
    fn lines() {
        use {LogFormat::*, LogTimestamp as T};
        let text = "Server initialized";
        let cases = [
            (
                line(Legacy, T::Legacy, Level::INFO, text),
                "PID:M 25 Nov 2026 03:51:11.091 * Server initialized\n",
            ),
            (
                line(Legacy, T::Iso8601, Level::WARN, text),
                "PID:M 2026-11-25T03:51:11.091+05:00 # Server initialized\n",
            ),
            (
                line(Legacy, T::Milliseconds, Level::DEBUG, text),
                "PID:M 1795560671091 - Server initialized\n",
            ),
            (
                line(Logfmt, T::Legacy, Level::TRACE, text),
                "pid=PID role=primary timestamp=\"25 Nov 2026 03:51:11.091\" level=debug message=\"Server initialized\"\n",
            ),
            (
                line(Json, T::Milliseconds, Level::ERROR, text),
                "{\"pid\":PID,\"role\":\"primary\",\"timestamp\":\"1795560671091\",\"level\":\"warning\",\"message\":\"Server initialized\"}\n",
            ),
        ];
        for (line, wanted) in cases {
            assert_eq!(line, wanted);
        }
    }

    #[test]
    fn text_cannot_leave_its_field() {
        let hostile = "a\"b\\c\n{\u{1}\t\u{8}\u{c}\r}é";
        let json = line(LogFormat::Json, LogTimestamp::Milliseconds, Level::INFO, hostile);
        assert!(json.trim_end().ends_with(r#""message":"a\"b\\c\n{\u0001\t\b\f\r}é"}"#), "{json}");
        let logfmt = line(LogFormat::Logfmt, LogTimestamp::Milliseconds, Level::INFO, hostile);
        assert_eq!(logfmt.matches('"').count(), 4, "{logfmt}");
        assert_eq!(logfmt.matches('\n').count(), 1, "{logfmt}");
    }
}
