//! The queue of log lines, and the writer that a thread of its own runs.
//!
//! [`Queue::push`] never waits for the writer. A line that does not fit is dropped. After that, all lines are dropped until the writer
//! has taken the queued lines. So the missing lines are in one place, and the notice about them is there too.
//!
//! Under load the writer takes many lines at once, because a wake-up and a write for each line took more processor time than making it.

use std::{
    io::{ErrorKind, Write},
    mem::{swap, take},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::metrics;

/// The maximum number of queued lines.
const MAX_LINES: usize = 4096;
/// The maximum number of queued bytes, unless a single line is longer.
const MAX_BYTES: usize = 1 << 20;
/// The maximum number of bytes in a write, unless a single line is longer. A pipe does not mix so many bytes with the writes of other
/// processes: `PIPE_BUF` in pipe(7).
const MAX_WRITE: usize = 4096;
/// The time between two attempts to write to a non-blocking pipe that is full.
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(20);
/// The time after a write in which further lines may arrive, so that they are written together.
const PAUSE: Duration = Duration::from_millis(4);

pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when an idle writer has lines to write.
    filled: Condvar,
    /// Notified when everything is written.
    written: Condvar,
}

struct State {
    lines: Lines,
    /// The number of lines dropped since the last queued line.
    dropped: u64,
    writer: Activity,
}

/// Concatenated lines.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// The position after each line.
    ends: Vec<usize>,
}

/// What the writer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    /// It waits for lines.
    Idle,
    /// It writes lines, or is about to take some.
    Writing,
    /// There is no writer.
    Gone,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let lines = Lines { bytes: Vec::new(), ends: Vec::new() };
        let state = State { lines, dropped: 0, writer: Activity::Writing };
        Self { state: Mutex::new(state), filled: Condvar::new(), written: Condvar::new() }
    }

    /// Queues a line, or drops and counts it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let State { lines, dropped, writer } = &mut *state;
        let fits = lines.ends.len() < MAX_LINES && lines.bytes.len() + line.len() <= MAX_BYTES;
        if *writer == Activity::Gone || *dropped > 0 || !(fits || lines.ends.is_empty()) {
            *dropped += 1;
            drop(state);
            metrics::log_lines_dropped(1);
            return;
        }
        lines.bytes.extend_from_slice(line);
        lines.ends.push(lines.bytes.len());
        if *writer == Activity::Idle {
            self.filled.notify_one();
        }
    }

    /// Waits until everything is written or dropped, for `limit` at most. Returns whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| match state.writer {
            Activity::Idle => !state.lines.ends.is_empty(),
            Activity::Writing => true,
            Activity::Gone => false,
        };
        !self.written.wait_while_for(&mut self.state.lock(), busy, limit).timed_out()
    }

    /// Drops every line from now on, because there is no writer.
    pub(super) fn give_up(&self) {
        self.state.lock().writer = Activity::Gone;
    }

    /// Waits for lines and moves all of them to `lines`, which must be empty. Returns how many lines were dropped after them.
    fn take(&self, lines: &mut Lines) -> u64 {
        let mut state = self.state.lock();
        while state.lines.ends.is_empty() {
            state.writer = Activity::Idle;
            self.written.notify_all();
            self.filled.wait(&mut state);
        }
        state.writer = Activity::Writing;
        swap(&mut state.lines, lines);
        take(&mut state.dropped)
    }
}

/// Writes the queued lines.
pub(super) struct Writer<W> {
    out: W,
    /// Makes the line that reports the number of lost lines.
    notice: fn(u64) -> String,
    /// The number of lines lost since the last written one.
    lost: u64,
    /// Whether only a part of the last line was written.
    torn: bool,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, notice: fn(u64) -> String) -> Self {
        Self { out, notice, lost: 0, torn: false }
    }

    /// Writes for as long as the process runs.
    pub(super) fn run(mut self, queue: &Queue) {
        loop {
            self.write_next(queue);
            thread::sleep(PAUSE);
        }
    }

    /// Waits for lines and writes all queued ones.
    fn write_next(&mut self, queue: &Queue) {
        let mut lines = Lines::default();
        let dropped = queue.take(&mut lines);
        self.write_lines(&lines);
        self.lost += dropped;
        self.report_lost();
    }

    fn write_lines(&mut self, Lines { bytes, ends }: &Lines) {
        let (mut start, mut ends) = (0, ends.as_slice());
        while let Some(&first) = ends.first() {
            let fitting = ends.iter().take_while(|end| **end - start <= MAX_WRITE).count().max(1);
            let end = ends.get(fitting - 1).copied().unwrap_or(first);
            let written = if self.report_lost() { self.write(&bytes[start..end]) } else { 0 };
            start += written;
            ends = &ends[ends.iter().take_while(|end| **end <= start).count()..];
            if start == end {
                continue;
            }
            // The write failed. The line that it did not finish is lost, and the next line is tried.
            if let Some((failed, after)) = ends.split_first() {
                (start, ends) = (*failed, after);
                self.lost += 1;
                metrics::log_lines_dropped(1);
            }
        }
    }

    /// Reports the lines lost before the next one. Returns false if the report cannot be written either.
    fn report_lost(&mut self) -> bool {
        if self.lost > 0 {
            let notice = (self.notice)(self.lost);
            if self.write(notice.as_bytes()) == notice.len() {
                self.lost = 0;
            }
        }
        self.lost == 0
    }

    /// Writes lines. If the line before was written in part, ends it first. Returns how many bytes of `lines` were written.
    fn write(&mut self, lines: &[u8]) -> usize {
        if self.torn && self.write_all(b"\n") == 0 { 0 } else { self.write_all(lines) }
    }

    /// Writes bytes until all are written or a write fails. Returns how many were written.
    fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => break,
                Ok(written) => {
                    rest = &rest[written..];
                    self.torn = !bytes[..bytes.len() - rest.len()].ends_with(b"\n");
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PIPE_PAUSE),
                Err(_) => break,
            }
        }
        bytes.len() - rest.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io};

    use super::*;

    /// Each write takes one step: the maximum number of bytes that it accepts, or its error. After the last step, writes accept all.
    #[derive(Default)]
    struct Sink {
        steps: VecDeque<Result<usize, ErrorKind>>,
        taken: Vec<u8>,
        writes: Vec<usize>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.steps.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            self.taken.extend(&bytes[..count]);
            self.writes.push(count);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer(steps: impl Into<VecDeque<Result<usize, ErrorKind>>>) -> Writer<Sink> {
        Writer::new(Sink { steps: steps.into(), ..Sink::default() }, |count| format!("{count} lost\n"))
    }

    fn text(writer: &Writer<Sink>) -> &str {
        std::str::from_utf8(&writer.out.taken).unwrap()
    }

    fn queued(lines: &[&str]) -> Queue {
        let queue = Queue::new();
        lines.iter().for_each(|line| queue.push(line.as_bytes()));
        queue
    }

    #[test]
    fn the_notice_about_dropped_lines_is_where_they_are_missing() {
        let queue = Queue::new();
        (0..MAX_LINES + 10).for_each(|number| queue.push(format!("{number}\n").as_bytes()));
        let mut writer = writer([]);
        writer.write_next(&queue);
        queue.push(b"after\n");
        writer.write_next(&queue);
        let expected: String = (0..MAX_LINES).map(|number| format!("{number}\n")).collect();
        assert_eq!(text(&writer), expected + "10 lost\nafter\n");
    }

    #[test]
    fn the_number_of_bytes_is_limited_too_and_after_a_dropped_line_shorter_ones_are_dropped() {
        let long = "x".repeat(MAX_BYTES - 1) + "\n";
        let queue = queued(&[&long, "does not fit\n", "\n"]);
        let mut writer = writer([]);
        writer.write_next(&queue);
        assert_eq!(text(&writer), long + "2 lost\n");
        // A line that exceeds the limit alone is written if the queue is empty.
        let longer = "x".repeat(2 * MAX_BYTES) + "\n";
        let queue = queued(&[&longer]);
        writer.out.taken.clear();
        writer.write_next(&queue);
        assert_eq!(text(&writer), longer);
    }

    #[test]
    fn after_a_full_disk_has_room_again_the_number_of_lost_lines_is_written() {
        let full = Err(ErrorKind::StorageFull);
        // The second line is cut off; the third finds the disk still full. Then there is room.
        let mut writer = writer([Ok(8), Ok(2), full, full]);
        writer.write_next(&queued(&["1 whole\n", "2 cut off\n"]));
        writer.write_next(&queued(&["3 after\n"]));
        assert_eq!(text(&writer), "1 whole\n2 \n1 lost\n3 after\n");
    }

    #[test]
    fn many_lines_share_a_write_and_no_line_is_split_between_writes() {
        let lines: Vec<String> = (0..100).map(|number| format!("{number:0>99}\n")).collect();
        let longer = "x".repeat(2 * MAX_WRITE) + "\n";
        let mut all: Vec<&str> = lines.iter().map(String::as_str).collect();
        all.push(&longer);
        let mut writer = writer([]);
        writer.write_next(&queued(&all));
        assert_eq!(writer.out.writes, [4000, 4000, 2000, longer.len()]);
        assert_eq!(text(&writer), all.concat());
    }

    #[test]
    fn without_a_reader_every_line_is_lost_and_counted() {
        let mut writer = writer(vec![Err(ErrorKind::BrokenPipe); 100]);
        for _ in 0..10 {
            writer.write_next(&queued(&["a\n", "b\n", "c\n"]));
        }
        assert_eq!((text(&writer), writer.lost), ("", 30));
    }

    #[test]
    fn a_write_to_a_full_non_blocking_pipe_is_retried() {
        let mut writer = writer([Ok(2), Err(ErrorKind::WouldBlock), Err(ErrorKind::Interrupted), Ok(1)]);
        writer.write_next(&queued(&["in parts\n"]));
        assert_eq!((text(&writer), writer.lost), ("in parts\n", 0));
    }

    #[test]
    fn a_flush_ends_when_everything_is_written_or_its_time_is_over() {
        let queue = queued(&["a\n"]);
        assert!(!queue.flush(Duration::from_millis(10)), "there is no writer");
        thread::scope(|scope| {
            let written = scope.spawn(|| queue.flush(Duration::from_secs(30)));
            let mut writer = writer([]);
            writer.write_next(&queue);
            assert!(!written.is_finished(), "the writer may be about to write more");
            queue.push(b"b\n");
            writer.write_next(&queue);
            queue.give_up();
            queue.written.notify_all();
            assert!(written.join().unwrap());
        });
    }
}
