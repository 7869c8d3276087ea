//! The state of the model: messages, the tasks that work on them, the stores and Slack.

use super::WORKERS;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Where each message is, and how often it was received. The count is also the number of its latest receipt.
    pub(super) messages: Vec<(Place, u8)>,
    /// Sorted by message and receipt.
    pub(super) tasks: Vec<Task>,
    /// One for each worker. If the workers share a table, only the first one is used.
    pub(super) stores: [Store; WORKERS],
    pub(super) slack: Slack,
    /// The events that any store has ever counted: a bit for each message.
    pub(super) counted: u8,
    pub(super) faults: u8,
    /// How many further roots the faults explain.
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
    /// The worker that holds the lease, and whether it reports the recovery.
    pub(super) lease: Option<(u8, bool)>,
    /// Whether a root is recorded, so that the incident is in Slack.
    pub(super) root: bool,
    pub(super) recovered: bool,
    /// The events that the incident has counted: a bit for each message.
    pub(super) events: u8,
    /// Whether a recovery was noted.
    pub(super) noted: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Slack {
    pub(super) roots: u8,
    /// The messages that a post carried: a bit for each.
    pub(super) carried: u8,
    /// Whether the latest root is green.
    pub(super) recovered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Task {
    pub(super) worker: u8,
    pub(super) message: u8,
    pub(super) receipt: u8,
    /// Its `start_by` has passed.
    pub(super) late: bool,
    /// Whether the task knows that a recovery was noted after its problem.
    pub(super) over: bool,
    pub(super) at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// Will note the recovery.
    ToNote,
    /// Will read the incident and decide.
    ToDo,
    /// Has read this version of the incident, and whether Slack has the incident.
    Read(u8, bool),
    /// Waits for the post of another task of the same worker.
    Joined,
    /// Has taken the lease.
    Claimed,
    /// Waits for its request to Slack.
    Waiting,
    /// Its request to Slack is under way.
    UnderWay,
    /// Slack has accepted the request.
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

/// Slack accepts the task's post.
pub(super) fn accept(slack: &mut Slack, task: Task, is_recovery: bool) {
    slack.carried |= 1 << task.message;
    slack.roots += u8::from(!is_recovery);
    slack.recovered = is_recovery || task.over;
}

/// Releases the lease, if the worker holds it.
pub(super) fn release_lease(store: &mut Store, worker: u8) {
    store.version += 1;
    store.lease = store.lease.filter(|(holder, _)| *holder != worker);
}

/// Ends the wait of the tasks that joined a post of this worker. They continue at `at`.
pub(super) fn wake(state: &mut State, worker: u8, at: At) {
    for task in state.tasks.iter_mut().filter(|task| task.worker == worker && task.at == At::Joined) {
        task.at = at;
    }
}
