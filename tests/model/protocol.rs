//! What happens to a message between SQS, the workers and Slack: receive, post, settle.
//!
//! The steps, and the code in `src` that they model:
//!
//! | step | code |
//! |---|---|
//! | `Receive` | `consumer.rs`, `Consumer::poll` and `Consumer::begin`: each received message has its own task |
//! | `ReceiveLost` | SQS hides the message, but its answer does not arrive |
//! | `Enter`, `Join`, `Known` | `reporter.rs`, `Reporter::report`: the first copy is posted, a copy that arrives meanwhile shares the result, a later copy is a duplicate |
//! | `Begin` | `slack/channel.rs`, `Flusher::flush`: a request begins, never after `start_by` |
//! | `Accept` | `slack/channel.rs`, `Flusher::settle`: Slack accepted the request |
//! | `Refuse`, `AnswerLost` | `slack/clock.rs`, `Clock::learn`: Slack did not accept it, or accepted it and the answer was lost; the alert waits for another request |
//! | `Late`, `GiveUp` | `consumer.rs`, `ConsumerSettings::work_time`: the time for the work has passed; `slack/channel.rs`, `Flusher::expire` |
//! | `Settle` | `pipeline.rs`, `Outcome::of_all`: an outcome only if every channel has the alert; `consumer/settle.rs`, `Consumer::settle` |
//! | `Delete`, `DeleteLost`, `DeleteFail` | `sqs/settle.rs`, `Queue::delete`, which retries a limited number of times |
//! | `PutBack`, `PutBackFail` | `sqs/settle.rs`, `Queue::put_back` |
//! | `NoEffect` | SQS does nothing for a receipt that is not the latest one |
//! | `Crash` | the process ends: its tasks and the cache of `reporter.rs` are lost; a request to Slack that is under way may still arrive |
//! | `Expire`, `ExpireHeld` | SQS: the visibility timeout of a message ends, without or during the work on it |
//! | `DeadLetter` | SQS: the redrive policy |
//!
//! The model leaves out requests that carry several alerts, because all of them share the answer. It has no durations, only an order of
//! steps. `ConsumerSettings` makes all work end within the visibility timeout, so `ExpireHeld` is a fault, which a test may exclude.

use std::collections::BTreeSet;

use crate::search::{Faulty, Model, Next, Steps};

const CHANNELS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// What the program does.
    AsIs,
    // The broken rules. The search must find the error in each.
    DeleteOnReceive,
    DeleteAfterOneChannel,
    RememberBeforeTheAnswer,
    ForgetWhatWasPosted,
    NeverPutBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    ReceiveLost,
    Refuse,
    AnswerLost,
    Late,
    DeleteLost,
    DeleteFail,
    PutBackFail,
    ExpireHeld,
    Crash,
}

use Fault::*;

pub const ALL: &[Fault] =
    &[ReceiveLost, Refuse, AnswerLost, Late, DeleteLost, DeleteFail, PutBackFail, ExpireHeld, Crash];
/// The faults after which a message that Slack accepted is still in the queue, so that it may be posted again.
const EXPLAIN_A_DUPLICATE: &[Fault] = &[AnswerLost, DeleteFail, ExpireHeld, Crash];
/// The other faults. None of them explains a duplicate.
pub const EXPLAIN_NONE: &[Fault] = &[ReceiveLost, Refuse, Late, DeleteLost, PutBackFail];

#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    pub rule: Rule,
    pub workers: u8,
    pub messages: u8,
    /// How many channels each message is for; at most [`CHANNELS`].
    pub channels: usize,
    pub max_receives: u8,
    pub faults: &'static [Fault],
    pub max_faults: u8,
    /// How often Slack may accept one message for one channel. `None`: once, and once more for each fault that explains a duplicate.
    pub max_accepted: Option<u8>,
    /// Whether two tasks may hold one message.
    pub may_overlap: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    messages: Vec<Message>,
    /// Sorted by message and receipt.
    tasks: Vec<Task>,
    /// The posts that each worker remembers: worker, message, channel.
    posted: BTreeSet<(u8, u8, usize)>,
    faults: u8,
    /// How many duplicates the faults explain.
    explained: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Message {
    place: Place,
    /// How often it was received. This is also the number of its latest receipt.
    receives: u8,
    /// How often Slack accepted it for each channel.
    accepted: [u8; CHANNELS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Visible,
    Hidden { put_back: bool },
    Deleted,
    DeadLettered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Task {
    worker: u8,
    message: u8,
    receipt: u8,
    /// Its `start_by` has passed.
    late: bool,
    posts: [Post; CHANNELS],
    /// How it settles its message; `None` while it posts.
    settles: Option<Settle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Post {
    ToDo,
    /// Waits for another task of the same worker, which posts the same message.
    Joined,
    /// In the channel's inbox.
    Waiting,
    UnderWay,
    Done,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Settle {
    Delete,
    PutBack,
}

/// The name of the step, the message, and the receipt or the worker. For `Crash`: whether the requests under way arrive, and the worker.
type Step = (&'static str, u8, u8);

impl Model for Protocol {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let message = Message { place: Place::Visible, receives: 0, accepted: [0; CHANNELS] };
        let messages = vec![message; self.messages.into()];
        State { messages, tasks: Vec::new(), posted: BTreeSet::new(), faults: 0, explained: 0 }
    }

    fn next(&self, state: &State) -> Vec<Next<Self>> {
        let mut next = Steps::new(self, state);
        for message in 0..self.messages {
            next.of_queue(message);
        }
        for task in 0..state.tasks.len() {
            match state.tasks[task].settles {
                None => next.of_work(task),
                Some(settle) => next.of_settling(task, settle),
            }
        }
        for worker in 0..self.workers {
            next.crash(worker);
        }
        next.found
    }

    fn wrong(&self, state: &State) -> Option<String> {
        for message in &state.messages {
            let accepted = &message.accepted[..self.channels];
            if message.place == Place::Deleted && accepted.contains(&0) {
                return Some("deleted, and a channel never got it".into());
            }
            if message.place == Place::DeadLettered && message.receives < self.max_receives {
                return Some("in the dead-letter queue too soon".into());
            }
            if accepted.iter().any(|accepted| *accepted > self.max_accepted.unwrap_or(1 + state.explained)) {
                return Some("posted twice for no reason".into());
            }
        }
        let overlap = state.tasks.windows(2).any(|two| two[0].message == two[1].message);
        (overlap && !self.may_overlap).then(|| "two tasks hold one message".into())
    }

    fn is_done(&self, state: &State) -> bool {
        let is_gone = |message: &Message| matches!(message.place, Place::Deleted | Place::DeadLettered);
        state.tasks.is_empty() && state.messages.iter().all(is_gone)
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
        state.explained += u8::from(EXPLAIN_A_DUPLICATE.contains(&fault));
    }
}

impl Steps<'_, Protocol> {
    fn of_queue(&mut self, number: u8) {
        let at = usize::from(number);
        let message = self.state.messages[at];
        match message.place {
            Place::Visible if message.receives >= self.model.max_receives => {
                self.step(("DeadLetter", number, 0), |state| state.messages[at].place = Place::DeadLettered);
            }
            Place::Visible => {
                let receive = |state: &mut State| {
                    state.messages[at].receives += 1;
                    state.messages[at].place = Place::Hidden { put_back: false };
                };
                for worker in 0..self.model.workers {
                    self.step(("Receive", number, worker), |state| {
                        receive(state);
                        if self.model.rule == Rule::DeleteOnReceive {
                            state.messages[at].place = Place::Deleted;
                        }
                        let mut posts = [Post::ToDo; CHANNELS];
                        posts[self.model.channels..].fill(Post::Done);
                        let receipt = message.receives + 1;
                        state.tasks.push(Task { worker, message: number, receipt, late: false, posts, settles: None });
                    });
                }
                self.fault(ReceiveLost, ("ReceiveLost", number, 0), receive);
            }
            Place::Hidden { put_back } => {
                let is_held = |task: &Task| task.message == number && task.receipt == message.receives;
                let expire = |state: &mut State| state.messages[at].place = Place::Visible;
                if put_back || !self.state.tasks.iter().any(is_held) {
                    self.step(("Expire", number, 0), expire);
                } else {
                    self.fault(ExpireHeld, ("ExpireHeld", number, 0), expire);
                }
            }
            Place::Deleted | Place::DeadLettered => {}
        }
    }

    fn of_work(&mut self, index: usize) {
        let task = self.state.tasks[index];
        let named = |what| (what, task.message, task.receipt);
        for channel in 0..self.model.channels {
            let key = (task.worker, task.message, channel);
            let set = |state: &mut State, post| state.tasks[index].posts[channel] = post;
            match task.posts[channel] {
                Post::ToDo => {
                    let posts = |other: &Task| {
                        (other.worker, other.message) == (task.worker, task.message)
                            && matches!(other.posts[channel], Post::Waiting | Post::UnderWay)
                    };
                    if self.state.posted.contains(&key) {
                        self.step(named("Known"), |state| set(state, Post::Done));
                    } else if self.state.tasks.iter().any(posts) && self.model.rule != Rule::ForgetWhatWasPosted {
                        self.step(named("Join"), |state| set(state, Post::Joined));
                    } else {
                        self.step(named("Enter"), |state| {
                            set(state, Post::Waiting);
                            if self.model.rule == Rule::RememberBeforeTheAnswer {
                                state.posted.insert(key);
                            }
                        });
                    }
                }
                Post::Waiting if task.late => {
                    self.step(named("GiveUp"), |state| resolve(state, index, channel, Post::Failed));
                }
                Post::Waiting => self.step(named("Begin"), |state| set(state, Post::UnderWay)),
                Post::UnderWay => {
                    let at = usize::from(task.message);
                    self.step(named("Accept"), |state| {
                        state.messages[at].accepted[channel] += 1;
                        if self.model.rule != Rule::ForgetWhatWasPosted {
                            state.posted.insert(key);
                        }
                        resolve(state, index, channel, Post::Done);
                    });
                    self.fault(Refuse, named("Refuse"), |state| set(state, Post::Waiting));
                    self.fault(AnswerLost, named("AnswerLost"), |state| {
                        state.messages[at].accepted[channel] += 1;
                        set(state, Post::Waiting);
                    });
                }
                Post::Joined | Post::Done | Post::Failed => {}
            }
        }
        if !task.late {
            self.fault(Late, named("Late"), |state| state.tasks[index].late = true);
        }
        if task.posts.iter().all(|post| matches!(post, Post::Done | Post::Failed)) {
            let done = task.posts[..self.model.channels].iter().filter(|post| **post == Post::Done).count();
            let has_outcome = match self.model.rule {
                Rule::DeleteAfterOneChannel => done > 0,
                _ => done == self.model.channels,
            };
            self.step(named("Settle"), |state| {
                state.tasks[index].settles = Some(if has_outcome { Settle::Delete } else { Settle::PutBack });
                // Another worker does not know which channel has it, and posts to both.
                state.explained += u8::from(!has_outcome && done > 0);
            });
        }
    }

    fn of_settling(&mut self, index: usize, settle: Settle) {
        let task = self.state.tasks[index];
        let at = usize::from(task.message);
        let named = |what| (what, task.message, task.receipt);
        let is_current = self.state.messages[at].receives == task.receipt;
        let delete = |state: &mut State| {
            if matches!(state.messages[at].place, Place::Visible | Place::Hidden { .. }) {
                state.messages[at].place = Place::Deleted;
            }
        };
        let leave = |state: &mut State| {
            state.tasks.remove(index);
        };
        match settle {
            Settle::Delete => {
                self.step(named("Delete"), |state| {
                    delete(state);
                    leave(state);
                });
                self.fault(DeleteLost, named("DeleteLost"), delete);
                self.fault(DeleteFail, named("DeleteFail"), leave);
            }
            Settle::PutBack if self.model.rule == Rule::NeverPutBack => {}
            Settle::PutBack => {
                self.step(named("PutBack"), |state| {
                    if let Place::Hidden { put_back } = &mut state.messages[at].place {
                        *put_back = true;
                    }
                    leave(state);
                });
                self.fault(PutBackFail, named("PutBackFail"), leave);
            }
        }
        // With a receipt that is not the latest, SQS may do it, or only answer that it did.
        if !is_current {
            self.step(named("NoEffect"), leave);
        }
    }

    fn crash(&mut self, worker: u8) {
        let is_idle = !self.state.tasks.iter().any(|task| task.worker == worker);
        if is_idle && !self.state.posted.iter().any(|(by, ..)| *by == worker) {
            return;
        }
        for arrives in [false, true] {
            self.fault(Crash, ("Crash", u8::from(arrives), worker), |state| {
                for task in state.tasks.iter().filter(|task| task.worker == worker && arrives) {
                    for (channel, _) in task.posts.iter().enumerate().filter(|(_, post)| **post == Post::UnderWay) {
                        state.messages[usize::from(task.message)].accepted[channel] += 1;
                    }
                }
                state.tasks.retain(|task| task.worker != worker);
                state.posted.retain(|(by, ..)| *by != worker);
            });
        }
    }
}

/// Ends the post of a task, and the wait of the tasks that joined it.
fn resolve(state: &mut State, index: usize, channel: usize, post: Post) {
    let Task { worker, message, .. } = state.tasks[index];
    state.tasks[index].posts[channel] = post;
    for task in state.tasks.iter_mut().filter(|task| (task.worker, task.message) == (worker, message)) {
        if task.posts[channel] == Post::Joined {
            task.posts[channel] = post;
        }
    }
}
