//! What happens to the alerts of one incident between the workers, the store and Slack: decide, post, record. The messages are problems.
//! If the test asks for a recovery, it is the last message, and newer than the problems.
//!
//! The steps, and the code in `src/incident` that they model. Functions without a file are in `log.rs`:
//!
//! | step | code |
//! |---|---|
//! | `Note` | `open_in`: a recovery is noted before leases are read |
//! | `Read`, `Join` | `decide`, up to its write: it loads the incident, calls `next`, and checks whether another report is in progress |
//! | `Duplicate`, `NoIncident` | `decide`: the incident has counted the event, or the recovery concerns no open incident |
//! | `Fold`, `Claim`, `Conflict` | `decide`: the conditional write of a repeat, or of the lease |
//! | `Check` | `check_noted_recovery`: called after the lease is taken |
//! | `Begin`, `Accept`, `Refuse`, `AnswerLost`, `GiveUp` | `log/record.rs`, `keep_lease`: the post, which the caller passes in |
//! | `Record`, `RecordFails` | `log/record.rs`, `record`: merges with what others wrote meanwhile |
//! | `ExpireLease`, `ExpireHeldLease` | a lease expires because its holder is gone, or is too slow to extend it |
//! | `ClaimFails` | `store/ledger.rs`: the table does not answer, and the alert is posted without a lease |
//! | `Crash` | the process ends: its tasks are lost and, without a table, its store |
//!
//! The queue is simple: it delivers a message again until it moves it to the dead-letter queue. [`super::protocol`] has the details.

mod state;

use self::state::{At, Place, Slack, State, Store, Task, accept, release_lease, wake};
use crate::search::{Faulty, Model, Next, Steps};

const WORKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// What the program does.
    AsIs,
    // The broken rules. The search must find the error in each.
    FoldBeforeTheRoot,
    RecordBeforeTheAnswer,
    NoLease,
    CheckBeforeTheLease,
    RecoverWithoutWaiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Refuse,
    AnswerLost,
    Late,
    ClaimFails,
    RecordFails,
    ExpireHeldLease,
    ExpireHeld,
    DeleteFail,
    Crash,
}

use Fault::*;

pub const ALL: &[Fault] =
    &[Refuse, AnswerLost, Late, ClaimFails, RecordFails, ExpireHeldLease, ExpireHeld, DeleteFail, Crash];
/// The faults after which Slack may have a post that no worker knows, or two workers may post at once.
const EXPLAIN_TWO_ROOTS: &[Fault] = &[AnswerLost, ClaimFails, RecordFails, ExpireHeldLease, Crash];
/// The other faults. None of them explains a second root.
pub const EXPLAIN_NONE: &[Fault] = &[Refuse, Late, ExpireHeld, DeleteFail];

#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub rule: Rule,
    pub problems: u8,
    /// Whether a recovery follows the problems.
    pub recovers: bool,
    pub max_receives: u8,
    pub faults: &'static [Fault],
    pub max_faults: u8,
    /// Whether the workers share a table. Otherwise each has its own memory.
    pub table: bool,
}

/// The name of the step, the message, and the receipt or the worker. For `Crash`: whether the request under way arrives, and the worker.
type Step = (&'static str, u8, u8);

impl Model for Protocol {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State {
            messages: vec![(Place::Visible, 0); usize::from(self.problems) + usize::from(self.recovers)],
            tasks: Vec::new(),
            stores: Default::default(),
            slack: Slack::default(),
            counted: 0,
            faults: 0,
            explained: 0,
        }
    }

    fn next(&self, state: &State) -> Vec<Next<Self>> {
        let mut next = Steps::new(self, state);
        for message in 0..state.messages.len() {
            next.of_queue(message);
        }
        for task in 0..state.tasks.len() {
            next.of_task(task);
        }
        for worker in 0..WORKERS {
            next.of_worker(worker as u8);
        }
        next.found
    }

    fn wrong(&self, state: &State) -> Option<String> {
        let has = |bits: u8, message: usize| bits & (1 << message) != 0;
        let is_lost = |message: usize| {
            let is_folded = state.slack.roots > 0 && has(state.counted, message);
            let deleted = state.messages[message].0 == Place::Deleted;
            deleted && !self.is_recovery(message as u8) && !has(state.slack.carried, message) && !is_folded
        };
        if (0..state.messages.len()).any(is_lost) {
            return Some("deleted, and Slack does not have its incident".into());
        }
        let openers = if self.table { 1 } else { WORKERS as u8 };
        if state.slack.roots > openers + state.explained {
            return Some("two roots for no reason".into());
        }
        let is_deleted = |(place, _): &(Place, u8)| *place == Place::Deleted;
        let is_over = self.recovers && self.is_done(state) && state.messages.iter().all(is_deleted);
        (is_over && state.slack.roots > 0 && !state.slack.recovered)
            .then(|| "recovered, and Slack does not show it".into())
    }

    fn is_done(&self, state: &State) -> bool {
        let is_gone = |(place, _): &(Place, u8)| matches!(place, Place::Deleted | Place::DeadLettered);
        state.tasks.is_empty() && state.messages.iter().all(is_gone)
    }
}

impl Protocol {
    const fn is_recovery(&self, message: u8) -> bool {
        message >= self.problems
    }

    fn store<'a>(&self, stores: &'a mut [Store; WORKERS], worker: u8) -> &'a mut Store {
        &mut stores[if self.table { 0 } else { usize::from(worker) }]
    }
}

impl Faulty for Protocol {
    type Fault = Fault;

    fn canonicalize(state: &mut State) {
        state.tasks.sort_by_key(|task| (task.message, task.receipt));
    }

    fn can_fail(&self, fault: Fault, state: &State) -> bool {
        self.faults.contains(&fault) && state.faults < self.max_faults
    }

    fn count_fault(&self, fault: Fault, state: &mut State) {
        state.faults += 1;
        state.explained += u8::from(EXPLAIN_TWO_ROOTS.contains(&fault));
    }
}

impl Steps<'_, Protocol> {
    fn of_queue(&mut self, at: usize) {
        let number = at as u8;
        let (place, receives) = self.state.messages[at];
        match place {
            Place::Visible if receives >= self.model.max_receives => {
                self.step(("DeadLetter", number, 0), |state| state.messages[at].0 = Place::DeadLettered);
            }
            Place::Visible => {
                let first = if self.model.is_recovery(number) { At::ToNote } else { At::ToDo };
                for worker in 0..WORKERS as u8 {
                    self.step(("Receive", number, worker), |state| {
                        let receipt = receives + 1;
                        state.messages[at] = (Place::Hidden, receipt);
                        state.tasks.push(Task {
                            worker,
                            message: number,
                            receipt,
                            late: false,
                            over: false,
                            at: first,
                        });
                    });
                }
            }
            Place::Hidden => {
                let expire = |state: &mut State| state.messages[at].0 = Place::Visible;
                if self.state.tasks.iter().any(|task| (task.message, task.receipt) == (number, receives)) {
                    self.fault(ExpireHeld, ("ExpireHeld", number, 0), expire);
                } else {
                    self.step(("Expire", number, 0), expire);
                }
            }
            Place::Deleted | Place::DeadLettered => {}
        }
    }

    fn of_task(&mut self, index: usize) {
        let (protocol, state) = (self.model, self.state);
        let task = state.tasks[index];
        let named = |what| (what, task.message, task.receipt);
        let bit = 1 << task.message;
        let is_recovery = protocol.is_recovery(task.message);
        let set = |state: &mut State, at| state.tasks[index].at = at;
        let mut stores = state.stores;
        let store = *protocol.store(&mut stores, task.worker);
        match task.at {
            At::ToNote => self.step(named("Note"), |state| {
                protocol.store(&mut state.stores, task.worker).noted = true;
                set(state, At::ToDo);
            }),
            At::ToDo => self.read(index, store),
            At::Read(version, _) if store.version != version => {
                self.step(named("Conflict"), |state| set(state, At::ToDo));
            }
            At::Read(_, true) if !is_recovery => self.step(named("Fold"), |state| {
                let store = protocol.store(&mut state.stores, task.worker);
                store.version += 1;
                store.events |= bit;
                state.counted |= bit;
                set(state, At::Done { delete: true });
            }),
            At::Read(..) => {
                self.step(named("Claim"), |state| {
                    let store = protocol.store(&mut state.stores, task.worker);
                    store.version += 1;
                    if protocol.rule != Rule::NoLease {
                        store.lease = Some((task.worker, is_recovery));
                    }
                    if protocol.rule == Rule::RecordBeforeTheAnswer {
                        store.root = true;
                        store.events |= bit;
                    }
                    set(state, At::Claimed);
                });
                self.fault(ClaimFails, named("ClaimFails"), |state| set(state, At::Claimed));
            }
            At::Claimed => self.step(named("Check"), |state| {
                if protocol.rule != Rule::CheckBeforeTheLease {
                    state.tasks[index].over = store.noted;
                }
                set(state, At::Waiting);
            }),
            At::Waiting if task.late => self.step(named("GiveUp"), |state| {
                release_lease(protocol.store(&mut state.stores, task.worker), task.worker);
                set(state, At::Done { delete: false });
                wake(state, task.worker, At::Done { delete: false });
            }),
            At::Waiting => self.step(named("Begin"), |state| set(state, At::UnderWay)),
            At::UnderWay => {
                self.step(named("Accept"), |state| {
                    accept(&mut state.slack, task, is_recovery);
                    set(state, At::Accepted);
                });
                self.fault(Refuse, named("Refuse"), |state| set(state, At::Waiting));
                self.fault(AnswerLost, named("AnswerLost"), |state| {
                    accept(&mut state.slack, task, is_recovery);
                    set(state, At::Waiting);
                });
            }
            At::Accepted => {
                self.step(named("Record"), |state| {
                    let store = protocol.store(&mut state.stores, task.worker);
                    store.recovered = if store.root { store.recovered | is_recovery } else { task.over };
                    store.root = true;
                    store.events |= bit;
                    release_lease(store, task.worker);
                    state.counted |= bit;
                    set(state, At::Done { delete: true });
                    wake(state, task.worker, At::ToDo);
                });
                self.fault(RecordFails, named("RecordFails"), |state| {
                    set(state, At::Done { delete: true });
                    wake(state, task.worker, At::ToDo);
                });
            }
            At::Joined => {}
            At::Done { delete } => self.settle(index, delete),
        }
        if !task.late && matches!(task.at, At::Waiting) {
            self.fault(Late, named("Late"), |state| state.tasks[index].late = true);
        }
    }

    /// Reads the incident and decides. While the task must wait for another worker's report, it has no step.
    fn read(&mut self, index: usize, store: Store) {
        let (protocol, state) = (self.model, self.state);
        let task = state.tasks[index];
        let named = |what| (what, task.message, task.receipt);
        let is_recovery = protocol.is_recovery(task.message);
        // Another task of this worker has the turn, which ends with its write.
        if state.tasks.iter().any(|other| other.worker == task.worker && matches!(other.at, At::Read(..))) {
            return;
        }
        let set = |state: &mut State, at| {
            state.tasks[index].at = at;
            if protocol.rule == Rule::CheckBeforeTheLease {
                state.tasks[index].over = store.noted;
            }
        };
        if store.root && store.events & (1 << task.message) != 0 {
            return self.step(named("Duplicate"), |state| set(state, At::Done { delete: true }));
        }
        let posting = state.tasks.iter().find(|other| other.worker == task.worker && other.at.posts());
        let posting = posting.map(|other| protocol.is_recovery(other.message));
        let leased = store.lease.filter(|(holder, _)| *holder != task.worker).map(|(_, recovers)| recovers);
        let folds_early = protocol.rule == Rule::FoldBeforeTheRoot && (posting.is_some() || leased.is_some());
        let has_root = store.root || folds_early && !is_recovery;
        let must_wait = |recovers: bool| {
            let repeats = has_root && !is_recovery;
            let ignores = protocol.rule == Rule::RecoverWithoutWaiting && is_recovery;
            if repeats { recovers } else { !ignores }
        };
        if posting.is_some_and(must_wait) {
            return self.step(named("Join"), |state| set(state, At::Joined));
        }
        if leased.is_some_and(must_wait) {
            return;
        }
        if is_recovery && (!store.root || store.recovered) {
            return self.step(named("NoIncident"), |state| set(state, At::Done { delete: true }));
        }
        self.step(named("Read"), |state| set(state, At::Read(store.version, has_root)));
    }

    fn settle(&mut self, index: usize, delete: bool) {
        let task = self.state.tasks[index];
        let (at, named) = (usize::from(task.message), |what| (what, task.message, task.receipt));
        let leave = |state: &mut State| {
            state.tasks.remove(index);
        };
        self.step(named(if delete { "Delete" } else { "PutBack" }), |state| {
            let (place, receives) = &mut state.messages[at];
            if delete && *place != Place::DeadLettered {
                *place = Place::Deleted;
            } else if *place == Place::Hidden && *receives == task.receipt {
                *place = Place::Visible;
            }
            leave(state);
        });
        if delete {
            self.fault(DeleteFail, named("DeleteFail"), leave);
        }
    }

    fn of_worker(&mut self, worker: u8) {
        let mut stores = self.state.stores;
        let protocol = self.model;
        let has_lease = (0..WORKERS as u8).any(|reader| {
            let lease = protocol.store(&mut stores, reader).lease;
            lease.is_some_and(|(holder, _)| holder == worker)
        });
        if has_lease {
            let expire = |state: &mut State| {
                for store in state.stores.iter_mut().filter(|store| store.lease.is_some_and(|(by, _)| by == worker)) {
                    store.lease = None;
                }
            };
            if self.state.tasks.iter().any(|task| task.worker == worker && task.at.posts()) {
                self.fault(ExpireHeldLease, ("ExpireHeldLease", 0, worker), expire);
            } else {
                self.step(("ExpireLease", 0, worker), expire);
            }
        }
        if !self.state.tasks.iter().any(|task| task.worker == worker) {
            return;
        }
        for arrives in [false, true] {
            self.fault(Crash, ("Crash", u8::from(arrives), worker), |state| {
                for task in state.tasks.iter().filter(|task| task.worker == worker && arrives) {
                    if task.at == At::UnderWay {
                        accept(&mut state.slack, *task, protocol.is_recovery(task.message));
                    }
                }
                state.tasks.retain(|task| task.worker != worker);
                if !protocol.table {
                    state.stores[usize::from(worker)] = Store::default();
                }
            });
        }
    }
}
