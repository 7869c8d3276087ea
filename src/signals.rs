//! Signals that ask the program to end: SIGTERM, SIGINT, SIGQUIT and SIGHUP.
//!
//! A thread of its own waits for them, so that none has to wait for what the program does meanwhile. Before a command has
//! something to finish, a signal ends the process; after [`Signals::drain`] the first one begins the drain. All of them are
//! listened to, since the first process of a container has no default action: what it does not listen to is ignored.

use std::{
    future::poll_fn,
    io,
    process::exit,
    sync::{Arc, Mutex, PoisonError, mpsc},
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::Instant,
};
use tracing::{error, info};

use crate::{log, shutdown::Stop};

/// SIGHUP's bit in the masks of `/proc/self/status`.
const HANGUP_BIT: u64 = 1;

/// What the next signal does.
#[derive(Debug)]
enum Next {
    /// It ends the process, with exit code 0 if that is `clean`, and else as shells report it.
    Exit { clean: bool },
    /// It begins a drain, and the one after it ends the process.
    Drain { grace: Duration, what: &'static str, stop: watch::Sender<Option<Instant>> },
}

/// The thread that waits for signals.
#[derive(Debug)]
pub struct Signals(Arc<Mutex<Next>>);

impl Signals {
    /// Begins to listen. Until [`Signals::drain`] a signal ends the process: with exit code 0 if that is a `clean` end, which
    /// leaves nothing undone, and else with 128 and the signal's number, as shells report it. Returns when no signal can be
    /// missed any more.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn listen(clean: bool) -> io::Result<Self> {
        let next = Arc::new(Mutex::new(Next::Exit { clean }));
        let (ready, listening) = mpsc::channel();
        let shared = Arc::clone(&next);
        thread::Builder::new().name("signals".into()).spawn(move || {
            // Its own runtime, since the program's may be busy.
            let runtime = runtime::Builder::new_current_thread().enable_io().build();
            let _ =
                runtime.map(|runtime| runtime.block_on(wait(&shared, &ready))).map_err(|error| ready.send(Err(error)));
        })?;
        listening.recv().map_err(io::Error::other)??;
        Ok(Self(next))
    }

    /// From now on the first signal tells everyone by when to have stopped, and the log `what` is done about it; the second
    /// ends the process at once.
    pub fn drain(&self, grace: Duration, what: &'static str) -> Stop {
        let (sender, stop) = watch::channel(None);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Next::Drain { grace, what, stop: sender };
        stop
    }
}

async fn wait(next: &Mutex<Next>, ready: &mpsc::Sender<io::Result<()>>) {
    let hangup = (!ignores_hangup()).then(SignalKind::hangup);
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()].into_iter().chain(hangup);
    let streams: io::Result<Vec<_>> = kinds.map(|kind| Ok((kind, signal(kind)?))).collect();
    let _ = ready.send(streams.as_ref().map(|_| ()).map_err(|error| error.kind().into()));
    let mut streams = streams.unwrap_or_default();
    loop {
        let any = poll_fn(|context| {
            let came =
                |(kind, stream): &mut (SignalKind, Signal)| stream.poll_recv(context).is_ready().then_some(*kind);
            streams.iter_mut().find_map(came).map_or(Poll::Pending, Poll::Ready)
        });
        let kind = any.await;
        act(&next.lock().unwrap_or_else(PoisonError::into_inner), kind);
    }
}

fn act(next: &Next, kind: SignalKind) {
    match next {
        Next::Exit { clean } => end(if *clean { 0 } else { 128 + kind.as_raw_value() }),
        Next::Drain { grace, what, stop } if stop.borrow().is_none() => {
            info!("{what}");
            // The last part of the grace is for giving back what could not be finished.
            let settling = Duration::from_secs(3).min(*grace / 4);
            stop.send_replace(Some(Instant::now() + *grace - settling));
        }
        // A terminal that closes may say so several times, or after another signal. It is in no hurry.
        Next::Drain { .. } if kind == SignalKind::hangup() => {}
        Next::Drain { .. } => {
            error!("stopping at once, on a second signal; what was in flight comes again");
            end(1);
        }
    }
}

fn end(code: i32) {
    log::flush(log::FLUSH);
    exit(code);
}

/// Whether whoever started the process had it ignore SIGHUP, as `nohup` does: that is to be kept.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANGUP_BIT != 0)
}
