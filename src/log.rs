//! The log: a line goes into a bounded queue, and a separate thread writes it to standard error.
//!
//! Nothing else in the program writes to standard error, so nothing else can block or fail because of it. If the reader is slow or gone,
//! or the disk is full, only log lines are lost. They are counted, and the log reports their number when it continues.

use std::{
    fmt::Display,
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    panic::{self, PanicHookInfo},
    sync::OnceLock,
    thread,
    time::Duration,
};

use tracing_subscriber::{
    Layer,
    fmt::{
        format,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry,
};

use self::{
    json::JsonLine,
    queue::{Queue, Writer},
};
pub use levels::Levels;

mod json;
mod levels;
mod queue;

/// How long the end of the program waits for the last lines to be written.
pub const FLUSH: Duration = Duration::from_millis(500);

static QUEUE: Queue = Queue::new();
/// Empty before [`subscribe`].
static FORMAT: OnceLock<Format> = OnceLock::new();

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Flushes the log when it is dropped, for [`FLUSH`] at most.
#[must_use = "the last lines are lost if nothing waits until they are written"]
#[derive(Debug)]
pub struct Flush(());

impl Drop for Flush {
    fn drop(&mut self) {
        flush(FLUSH);
    }
}

/// Starts the thread that writes, and logs panics. Must be called once, before anything is logged.
pub fn start() -> Flush {
    // A file descriptor of its own: the standard library's has a lock, and other users of that lock would wait for a write that blocks.
    let own = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let out: Box<dyn Write + Send> = own.map_or_else(|_| Box::new(io::stderr()) as _, |file| Box::new(file) as _);
    let writer = thread::Builder::new().name("log".into());
    if writer.spawn(|| Writer::new(out, dropped_notice).run(&QUEUE)).is_err() {
        // Without the thread there is no log: its lines are dropped, and the program runs on.
        QUEUE.give_up();
    }
    panic::set_hook(Box::new(report_panic));
    Flush(())
}

/// Starts logging the events of `tracing`. If no format is given, the log is text on a terminal and JSON elsewhere.
///
/// # Errors
/// When it was called before.
pub fn subscribe(format: Option<Format>, levels: &Levels) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    let terminal = io::stderr().is_terminal();
    let format = *FORMAT.get_or_init(|| format.unwrap_or(if terminal { Format::Text } else { Format::Json }));
    // `tracing_subscriber` would report its own errors with `eprintln!`, which panics if the write fails.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Line)
        .with_target(false)
        .with_ansi(terminal)
        .log_internal_errors(false);
    let lines = match format {
        Format::Json => lines.fmt_fields(format::JsonFields::new()).event_format(JsonLine).boxed(),
        Format::Text => lines.boxed(),
    };
    tracing::subscriber::set_global_default(registry().with(lines.with_filter(levels.filter())))
}

/// Writes a plain line, without time and level: a message from a command to the person who runs it.
pub fn say(line: impl Display) {
    QUEUE.push(format!("{line}\n").as_bytes());
}

/// Waits until every line is written, for `limit` at most.
pub fn flush(limit: Duration) {
    QUEUE.flush(limit);
}

/// Writes a line into the queue. `tracing_subscriber` passes each line in a single write.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs a panic. The default hook writes to standard error directly, and blocks while nobody reads it.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let what = panic.payload_as_str().unwrap_or("the panic's payload is not a text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(place, "panicked: {what}");
    } else {
        say(format_args!("ecs-slack-alerts: panicked at {place}: {what}"));
    }
}

/// The line that replaces the dropped lines.
fn dropped_notice(count: u64) -> String {
    let message = format!("{count} log lines were dropped: standard error did not take them");
    let mut now = String::new();
    // A time that cannot be written is left out.
    let _ = SystemTime.format_time(&mut format::Writer::new(&mut now));
    match FORMAT.get() {
        Some(Format::Json) => {
            format!("{{\"timestamp\":\"{now}\",\"level\":\"WARN\",\"message\":\"{message}\",\"dropped\":{count}}}\n")
        }
        Some(Format::Text) => format!("{now}  WARN {message}\n"),
        None => format!("ecs-slack-alerts: {message}\n"),
    }
}
