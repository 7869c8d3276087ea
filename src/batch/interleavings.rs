//! Runs the real batcher in every order in which its submitters and its flusher can run, be dropped or die, within small bounds.
//!
//! The tasks are polled one at a time, and each only after it was woken. So after a lost wake-up, a task never ends, and the search
//! finds it. The tasks share only two of tokio's channels, whose operations are atomic. So every interleaving of threads is equivalent
//! to one of these orders. Between any two operations of a flusher there is a [`pause`], in which all other tasks may run.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};

use tokio::sync::Semaphore;

use super::*;

/// The number of the accepted attempt, or an error if the item was refused.
type FlushResult = Result<usize, ()>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Like `slack/channel.rs`: one attempt at a time. A failed batch returns to the front; some are refused permanently.
    Channel,
    /// Like `sqs/settle.rs`: two attempts at once. A failed batch is answered with an error.
    Settling,
    // Broken flushers, in which the search must find the error.
    ForgetsWhatFailed,
    AnswersBeforeItKnows,
    SplitsTheOldestOff,
}

/// How many of each event one run has.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    submitters: usize,
    failures: usize,
    withdrawals: usize,
    deaths: usize,
}

/// Items in one attempt.
const BATCH: usize = 2;

/// The choices of one run, which identify it and lead to the next run.
#[derive(Default)]
struct Choices {
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, options: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, options));
        }
        self.at += 1;
        self.made[self.at - 1].0
    }

    /// Whether there is another run.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, options)) = self.made.pop() {
            if chosen + 1 < options {
                self.made.push((chosen + 1, options));
                return true;
            }
        }
        false
    }
}

struct World {
    choices: Choices,
    /// The events that may still happen.
    bounds: Bounds,
    /// The number of tasks that remain at the end, because they were never woken again.
    asleep: usize,
    has_died: bool,
    /// Counts the events.
    clock: usize,
    /// When each item was submitted and, if it was, withdrawn.
    sent: Vec<usize>,
    withdrawn: Vec<Option<usize>>,
    answers: Vec<Option<Option<FlushResult>>>,
    attempts: Vec<Attempt>,
    spawned: Vec<Pin<Box<dyn Future<Output = ()>>>>,
}

struct Attempt {
    gathered: usize,
    items: Vec<usize>,
    accepted: bool,
}

type Shared = Rc<RefCell<World>>;

/// Explores every run. Returns the number of runs, or the first error.
fn explore(kind: Kind, bounds: Bounds) -> Result<usize, String> {
    let mut choices = Choices::default();
    let mut runs = 0;
    loop {
        let world = run(kind, bounds, choices);
        runs += 1;
        world.judge().map_err(|what| {
            format!("{what}; attempts {:?}", world.attempts.iter().map(|a| &a.items).collect::<Vec<_>>())
        })?;
        choices = world.choices;
        if !choices.advance() {
            return Ok(runs);
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Flag>,
    is_flusher: bool,
    submits: Option<usize>,
    begun: bool,
}

fn run(kind: Kind, bounds: Bounds, choices: Choices) -> World {
    let count = bounds.submitters;
    let world = Rc::new(RefCell::new(World {
        choices,
        bounds,
        asleep: 0,
        has_died: false,
        clock: 0,
        sent: vec![0; count],
        withdrawn: vec![None; count],
        answers: vec![None; count],
        attempts: Vec::new(),
        spawned: Vec::new(),
    }));
    let (batcher, inbox) = batcher::<usize, FlushResult>();
    let batcher = Rc::new(batcher);
    let mut tasks: Vec<Task> = Vec::new();
    let add = |tasks: &mut Vec<Task>, future: Pin<Box<dyn Future<Output = ()>>>, submits| {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        tasks.push(Task { future, woken, is_flusher: false, submits, begun: false });
    };
    let flusher: Pin<Box<dyn Future<Output = ()>>> = match kind {
        Kind::Settling => Box::pin(settle(inbox, Rc::clone(&world))),
        kind => Box::pin(post(kind, inbox, Rc::clone(&world))),
    };
    add(&mut tasks, flusher, None);
    tasks[0].is_flusher = true;
    for item in 0..count {
        let (batcher, world) = (Rc::clone(&batcher), Rc::clone(&world));
        let submit = async move {
            let now = world.borrow().clock;
            world.borrow_mut().sent[item] = now;
            let answer = batcher.submit(item).await;
            world.borrow_mut().answers[item] = Some(answer);
        };
        add(&mut tasks, Box::pin(submit), Some(item));
    }
    drop(batcher);
    loop {
        for future in world.borrow_mut().spawned.drain(..) {
            add(&mut tasks, future, None);
        }
        let ready: Vec<usize> = (0..tasks.len()).filter(|task| tasks[*task].woken.0.load(Ordering::Relaxed)).collect();
        if ready.is_empty() {
            break;
        }
        let leaves = |task: &usize| tasks[*task].begun && tasks[*task].submits.is_some();
        let may_leave: Vec<usize> = match world.borrow().bounds.withdrawals {
            0 => Vec::new(),
            _ => (0..tasks.len()).filter(leaves).collect(),
        };
        // The flusher is the first task until it ends.
        let may_die = usize::from(world.borrow().bounds.deaths > 0 && tasks[0].is_flusher);
        let options = ready.len() + may_leave.len() + may_die;
        let choice = {
            let mut world = world.borrow_mut();
            world.clock += 1;
            world.choices.choose(options)
        };
        if let Some(&index) = ready.get(choice) {
            let task = &mut tasks[index];
            task.begun = true;
            task.woken.0.store(false, Ordering::Relaxed);
            let waker = Arc::clone(&task.woken).into();
            if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                drop(tasks.remove(index));
            }
        } else if let Some(&index) = may_leave.get(choice - ready.len()) {
            let task = tasks.remove(index);
            let mut world = world.borrow_mut();
            let now = world.clock;
            world.withdrawn[task.submits.unwrap()] = Some(now);
            world.bounds.withdrawals -= 1;
        } else {
            let mut world = world.borrow_mut();
            world.bounds.deaths -= 1;
            world.has_died = true;
            drop(world);
            drop(tasks.remove(0));
        }
    }
    world.borrow_mut().asleep = tasks.len();
    drop(tasks);
    let world = Rc::try_unwrap(world).unwrap_or_else(|_| panic!("a task is left")).into_inner();
    assert_eq!(world.choices.at, world.choices.made.len(), "a run follows its choices");
    world
}

impl World {
    fn judge(&self) -> Result<(), String> {
        if self.asleep > 0 {
            return Err("a task was never woken".into());
        }
        for item in 0..self.sent.len() {
            let carried: Vec<usize> =
                (0..self.attempts.len()).filter(|n| self.attempts[*n].items.contains(&item)).collect();
            let accepted: Vec<usize> = carried.iter().copied().filter(|n| self.attempts[*n].accepted).collect();
            if accepted.len() > 1 {
                return Err(format!("{item} was accepted twice"));
            }
            match (self.withdrawn[item], self.answers[item]) {
                (Some(withdrawn), _) if carried.iter().any(|n| self.attempts[*n].gathered > withdrawn) => {
                    return Err(format!("{item} was withdrawn, and flushed after that"));
                }
                (Some(_), _) => {}
                (None, Some(Some(Ok(n)))) if accepted != [n] => {
                    return Err(format!("{item} received Ok, but was not accepted"));
                }
                (None, Some(Some(Err(())))) if !accepted.is_empty() => {
                    return Err(format!("{item} was accepted, and received Err"));
                }
                (None, Some(Some(_))) => {}
                (None, Some(None)) if self.has_died => {}
                (None, Some(None)) => return Err(format!("{item} was lost by a running flusher")),
                (None, None) => return Err(format!("{item} was never answered")),
            }
        }
        let in_order = |attempt: &&Attempt| attempt.items.is_sorted_by_key(|item| self.sent[*item]);
        match self.attempts.iter().find(|attempt| !in_order(attempt)) {
            Some(attempt) => Err(format!("{:?} are out of order", attempt.items)),
            None => Ok(()),
        }
    }
}

/// Yields, so that all other tasks may run.
async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Records an attempt with the taken items. Returns its number.
fn attempt(world: &Shared, gathered: usize, batch: &[Waiting<usize, FlushResult>]) -> usize {
    let items = batch.iter().map(|waiting| waiting.item).collect();
    let mut world = world.borrow_mut();
    world.attempts.push(Attempt { gathered, items, accepted: false });
    world.attempts.len() - 1
}

/// Chooses one of `ways` outcomes for the attempt. 0 means that it was accepted; the flusher decides what the others mean.
fn outcome(world: &Shared, attempt: usize, ways: usize) -> usize {
    let mut world = world.borrow_mut();
    let ways = if world.bounds.failures > 0 { ways } else { 1 };
    let outcome = world.choices.choose(ways);
    world.bounds.failures -= usize::from(outcome > 0);
    world.attempts[attempt].accepted = outcome == 0;
    outcome
}

async fn post(kind: Kind, mut inbox: Inbox<usize, FlushResult>, world: Shared) {
    while inbox.wait().await {
        pause().await;
        let gathered = {
            inbox.gather();
            world.borrow().clock
        };
        pause().await;
        let mut batch = inbox.take(BATCH);
        if batch.is_empty() {
            continue;
        }
        let number = attempt(&world, gathered, &batch);
        if kind == Kind::AnswersBeforeItKnows {
            batch.drain(..).for_each(|waiting| waiting.answer(Ok(number)));
        }
        pause().await;
        match (outcome(&world, number, 3), kind) {
            (0, _) => batch.into_iter().for_each(|waiting| waiting.answer(Ok(number))),
            (1, Kind::ForgetsWhatFailed) => {}
            (1, Kind::SplitsTheOldestOff) => {
                let rest = batch.split_off(1);
                inbox.restore(rest);
                // At the end, instead of at the front.
                let waiting = inbox.take(usize::MAX);
                inbox.restore(batch);
                inbox.restore(waiting);
            }
            (1, _) => inbox.restore(batch),
            _ => batch.into_iter().for_each(|waiting| waiting.answer(Err(()))),
        }
    }
}

async fn settle(mut inbox: Inbox<usize, FlushResult>, world: Shared) {
    let calls = Arc::new(Semaphore::new(2));
    while inbox.wait().await {
        pause().await;
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        let gathered = {
            inbox.gather();
            world.borrow().clock
        };
        pause().await;
        let batch = inbox.take(1);
        if batch.is_empty() {
            continue;
        }
        let number = attempt(&world, gathered, &batch);
        let of_batch = Rc::clone(&world);
        world.borrow_mut().spawned.push(Box::pin(async move {
            pause().await;
            let answer = if outcome(&of_batch, number, 2) == 0 { Ok(number) } else { Err(()) };
            drop(permit);
            batch.into_iter().for_each(|waiting| waiting.answer(answer));
        }));
    }
}

#[test]
fn each_waiting_submitter_receives_one_correct_answer() {
    let bounds = Bounds { submitters: 2, failures: 1, withdrawals: 1, deaths: 1 };
    for (kind, bounds) in [
        (Kind::Channel, bounds),
        (Kind::Channel, Bounds { submitters: 3, failures: 1, withdrawals: 0, deaths: 0 }),
        (Kind::Settling, Bounds { deaths: 0, ..bounds }),
    ] {
        let runs = explore(kind, bounds).unwrap_or_else(|what| panic!("{kind:?}, {bounds:?}: {what}"));
        println!("{kind:?}, {bounds:?}: {runs} runs");
    }
}

#[test]
fn the_search_finds_the_error_of_each_broken_flusher() {
    let bounds = Bounds { submitters: 3, failures: 1, withdrawals: 0, deaths: 0 };
    for (kind, expected) in [
        (Kind::ForgetsWhatFailed, "was lost by a running flusher"),
        (Kind::AnswersBeforeItKnows, "received Ok, but was not accepted"),
        (Kind::SplitsTheOldestOff, "out of order"),
    ] {
        let what = explore(kind, bounds).unwrap_err();
        assert!(what.contains(expected), "{kind:?}: {what}");
    }
}
