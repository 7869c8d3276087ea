//! What there is: messages, the tasks that work on them, the store and Slack.

use super::WORKERS;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) messages: Vec<(Place, u8)>,
    /// By (message, receipt).
    pub(super) tasks: Vec<Task>,
    /// One for each worker; only the first is used if they share a table.
    pub(super) stores: [Store; WORKERS],
    pub(super) slack: Slack,
    /// What was ever recorded as counted.
    pub(super) counted: u8,
    pub(super) faults: u8,
    pub(super) explained: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Visible,
    Hidden,
    Deleted,
    DeadLettered,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Store {
    pub(super) version: u8,
    /// Who has the lease, and whether for the recovery.
    pub(super) lease: Option<(u8, bool)>,
    pub(super) root: bool,
    pub(super) recovered: bool,
    /// A bit for each message.
    pub(super) events: u8,
    pub(super) noted: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Slack {
    pub(super) roots: u8,
    /// A bit for each message that a post carried.
    pub(super) carried: u8,
    /// The latest root is green.
    pub(super) recovered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Task {
    pub(super) worker: u8,
    pub(super) message: u8,
    pub(super) receipt: u8,
    pub(super) late: bool,
    /// A recovery was noted after the problem, as far as the task knows.
    pub(super) over: bool,
    pub(super) at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    ToNote,
    ToDo,
    /// This version was read, and the incident is Slack's; or it is not.
    Read(u8, bool),
    Joined,
    Claimed,
    Waiting,
    UnderWay,
    Accepted,
    Done {
        delete: bool,
    },
}

impl At {
    pub(super) const fn posts(self) -> bool {
        matches!(self, Self::Claimed | Self::Waiting | Self::UnderWay | Self::Accepted)
    }
}

/// Slack has the post.
pub(super) fn accept(slack: &mut Slack, task: Task, is_recovery: bool) {
    slack.carried |= 1 << task.message;
    slack.roots += u8::from(!is_recovery);
    slack.recovered = is_recovery || task.over;
}

/// Gives the lease back, if the worker has it.
pub(super) fn give_back(store: &mut Store, worker: u8) {
    store.version += 1;
    store.lease = store.lease.filter(|(holder, _)| *holder != worker);
}

/// Ends the wait of those that joined a post of the worker.
pub(super) fn wake(state: &mut State, worker: u8, at: At) {
    for task in state.tasks.iter_mut().filter(|task| task.worker == worker && task.at == At::Joined) {
        task.at = at;
    }
}
