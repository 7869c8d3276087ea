//! The queue between those who log and the thread that writes, and that thread.
//!
//! [`Queue::push`] never waits for the writer. What does not fit is dropped, and from the first dropped line on so is every
//! other until the writer has taken what is queued: so the gap is in one place, and the notice stands there.
//!
//! Under load the writer takes many lines at once: a wake-up and a write for each line took more processor time than making the line.

use std::{
    io::{ErrorKind, Write},
    mem::{swap, take},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::metrics;

/// Lines that wait at most.
const MAX_LINES: usize = 4096;
/// Bytes that wait at most, unless a single line is longer.
const MAX_BYTES: usize = 1 << 20;
/// A pipe takes so many bytes as one piece, whoever else writes to it: `PIPE_BUF` in pipe(7).
const MAX_WRITE: usize = 4096;
/// Between attempts to write to a pipe that is full and does not block.
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(20);
/// After a write, for lines to gather.
const PAUSE: Duration = Duration::from_millis(4);

pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer has something to do.
    filled: Condvar,
    /// Everything is written.
    written: Condvar,
}

struct State {
    lines: Lines,
    /// Lines dropped after those that are queued.
    dropped: u64,
    writer: Activity,
}

/// Lines one after another.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    /// It waits for lines.
    Idle,
    /// It writes what it took.
    Writing,
    /// There is none.
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

    /// Waits until everything is written or dropped, for `limit` at most; whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| match state.writer {
            Activity::Idle => !state.lines.ends.is_empty(),
            Activity::Writing => true,
            Activity::Gone => false,
        };
        !self.written.wait_while_for(&mut self.state.lock(), busy, limit).timed_out()
    }

    /// There will be no writer: everything is dropped from now on.
    pub(super) fn give_up(&self) {
        self.state.lock().writer = Activity::Gone;
    }

    /// Waits for lines; exchanges them all for these, which are none, and tells how many were dropped after them.
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

/// Writes what is queued.
pub(super) struct Writer<W> {
    out: W,
    /// Makes the line that reports so many dropped lines.
    notice: fn(u64) -> String,
    /// Lines dropped since the last one that was written.
    lost: u64,
    /// The last line was written in part only.
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

    /// Waits for lines and writes all there are.
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
            // The next one may fare better.
            if let Some((failed, after)) = ends.split_first() {
                (start, ends) = (*failed, after);
                self.lost += 1;
                metrics::log_lines_dropped(1);
            }
        }
    }

    /// Reports the lines that were lost before the next one; false if that cannot be written either.
    fn report_lost(&mut self) -> bool {
        if self.lost > 0 {
            let notice = (self.notice)(self.lost);
            if self.write(notice.as_bytes()) == notice.len() {
                self.lost = 0;
            }
        }
        self.lost == 0
    }

    /// Writes lines, after the end of one that was torn; how many bytes of them.
    fn write(&mut self, lines: &[u8]) -> usize {
        if self.torn && self.write_all(b"\n") == 0 { 0 } else { self.write_all(lines) }
    }

    /// How many bytes were written before it failed.
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

    /// Takes so many bytes, then fails, as each step says; after the last step it takes everything.
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
    fn what_does_not_fit_is_reported_where_it_is_missing() {
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
    fn bytes_are_bounded_too_and_a_gap_has_no_lines_in_it() {
        let long = "x".repeat(MAX_BYTES - 1) + "\n";
        let queue = queued(&[&long, "does not fit\n", "\n"]);
        let mut writer = writer([]);
        writer.write_next(&queue);
        assert_eq!(text(&writer), long + "2 lost\n");
        // A line that is longer than all may be is written by itself.
        let longer = "x".repeat(2 * MAX_BYTES) + "\n";
        let queue = queued(&[&longer]);
        writer.out.taken.clear();
        writer.write_next(&queue);
        assert_eq!(text(&writer), longer);
    }

    #[test]
    fn a_disk_that_was_full_gets_the_number_of_lines_that_it_lacks() {
        let full = Err(ErrorKind::StorageFull);
        // The second line is cut off; the third finds the disk still full. Then there is room.
        let mut writer = writer([Ok(8), Ok(2), full, full]);
        writer.write_next(&queued(&["1 whole\n", "2 cut off\n"]));
        writer.write_next(&queued(&["3 after\n"]));
        assert_eq!(text(&writer), "1 whole\n2 \n1 lost\n3 after\n");
    }

    #[test]
    fn many_lines_are_one_write_and_no_line_is_in_two() {
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
    fn a_reader_that_is_gone_costs_every_line_and_nothing_else() {
        let mut writer = writer(vec![Err(ErrorKind::BrokenPipe); 100]);
        for _ in 0..10 {
            writer.write_next(&queued(&["a\n", "b\n", "c\n"]));
        }
        assert_eq!((text(&writer), writer.lost), ("", 30));
    }

    #[test]
    fn a_full_pipe_that_does_not_block_is_tried_again() {
        let mut writer = writer([Ok(2), Err(ErrorKind::WouldBlock), Err(ErrorKind::Interrupted), Ok(1)]);
        writer.write_next(&queued(&["in parts\n"]));
        assert_eq!((text(&writer), writer.lost), ("in parts\n", 0));
    }

    #[test]
    fn a_flush_ends_with_the_last_line_or_its_time() {
        let queue = queued(&["a\n"]);
        assert!(!queue.flush(Duration::from_millis(10)), "nobody writes");
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
