//! Signals that ask the program to end: SIGTERM, SIGINT, SIGQUIT and SIGHUP.
//!
//! A separate thread waits for signals, so that a busy program does not delay them. A signal ends the process; after
//! [`Signals::drain`] the first one begins the drain instead. The program handles all four, because the kernel ignores a signal that
//! the first process of a container does not handle.

use std::{
    future::poll_fn,
    io,
    process::exit,
    sync::{Arc, mpsc},
    task::Poll,
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::Instant,
};
use tracing::{error, info};

use crate::{log, shutdown::StopSignal};

/// SIGHUP's bit in the masks of `/proc/self/status`.
const HANGUP_BIT: u64 = 1;

/// What the program does on the next signal.
#[derive(Debug)]
enum NextSignal {
    /// End the process: with exit code 0 if `clean`, else with the code that shells use.
    Exit { clean: bool },
    /// Begin a drain; the signal after it ends the process.
    Drain { grace: Duration, what: &'static str, stop: watch::Sender<Option<Instant>> },
}

/// The thread that waits for signals.
#[derive(Debug)]
pub struct Signals(Arc<Mutex<NextSignal>>);

impl Signals {
    /// Starts to listen for signals. Until [`Signals::drain`] is called, a signal ends the process: with exit code 0 if `clean` (the
    /// process has nothing to finish), else with 128 plus the signal's number, as shells report it. After this function returns, no
    /// signal is missed.
    ///
    /// # Errors
    /// When the thread or the signal handlers cannot be set up.
    pub fn listen(clean: bool) -> io::Result<Self> {
        let next = Arc::new(Mutex::new(NextSignal::Exit { clean }));
        let (ready, listening) = mpsc::channel();
        let shared = Arc::clone(&next);
        thread::Builder::new().name("signals".into()).spawn(move || {
            // This thread has its own runtime, because the program's runtime may be busy.
            let runtime = runtime::Builder::new_current_thread().enable_io().build();
            let _ = runtime
                .map(|runtime| runtime.block_on(wait_for_signals(&shared, &ready)))
                .map_err(|error| ready.send(Err(error)));
        })?;
        listening.recv().map_err(io::Error::other)??;
        Ok(Self(next))
    }

    /// From now on, the first signal sets the instant by which all work must have ended, and logs `what`. The second signal ends the
    /// process at once.
    pub fn drain(&self, grace: Duration, what: &'static str) -> StopSignal {
        let (sender, stop) = watch::channel(None);
        *self.0.lock() = NextSignal::Drain { grace, what, stop: sender };
        stop
    }
}

async fn wait_for_signals(next: &Mutex<NextSignal>, ready: &mpsc::Sender<io::Result<()>>) {
    let hangup = (!ignores_hangup()).then(SignalKind::hangup);
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()].into_iter().chain(hangup);
    let streams: io::Result<Vec<_>> = kinds.map(|kind| Ok((kind, signal(kind)?))).collect();
    let _ = ready.send(streams.as_ref().map(|_| ()).map_err(|error| error.kind().into()));
    let mut streams = streams.unwrap_or_default();
    loop {
        let any = poll_fn(|context| {
            let received =
                |(kind, stream): &mut (SignalKind, Signal)| stream.poll_recv(context).is_ready().then_some(*kind);
            streams.iter_mut().find_map(received).map_or(Poll::Pending, Poll::Ready)
        });
        let kind = any.await;
        handle(&next.lock(), kind);
    }
}

fn handle(next: &NextSignal, kind: SignalKind) {
    match next {
        NextSignal::Exit { clean } => end(if *clean { 0 } else { 128 + kind.as_raw_value() }),
        NextSignal::Drain { grace, what, stop } if stop.borrow().is_none() => {
            info!("{what}");
            // The last part of the grace period is for putting back messages whose work has not ended.
            let settling = Duration::from_secs(3).min(*grace / 4);
            stop.send_replace(Some(Instant::now() + *grace - settling));
        }
        // A terminal that closes may send SIGHUP several times, or after another signal. It does not count as the second signal.
        NextSignal::Drain { .. } if kind == SignalKind::hangup() => {}
        NextSignal::Drain { .. } => {
            error!("stopping at once, on a second signal; SQS delivers the messages in flight again");
            end(1);
        }
    }
}

fn end(code: i32) {
    log::flush(log::FLUSH);
    exit(code);
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does. It then stays ignored.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANGUP_BIT != 0)
}
