//! Reports the alerts of incidents: decides, posts, then records what Slack accepted.
//!
//! [`NotificationLog::report`] is called for each alert and channel. It reads the incident, decides with [`next`], posts news with
//! the caller's closure, and records the incident after Slack's answer, never before. So a crash loses nothing at any point: the
//! message is still in the queue, and the next attempt decides from the record.
//!
//! # Concurrency
//!
//! Each incident has at most one report in progress:
//!
//! * In this process, alerts that would be reported wait for the one that is being posted, and share its failure. If Slack accepted
//!   it, they decide again; most are then folded. ([`turns`])
//! * A replica that wants to post first takes a short lease, by a conditional write, and extends it while it waits for Slack. A
//!   replica that finds a lease waits until it is released or expires, or puts the message back for a few seconds
//!   ([`Failure::Busy`]).
//! * A repeat of an incident that Slack has waits for neither. The exception is while the recovery is being posted: the log must
//!   know which of the two is later.
//!
//! # Repeats
//!
//! A repeat is first recorded and then shown, by an edit of the root if the channel can edit. Slack has the incident, and the
//! incident has counted the event. So the message may be deleted whether or not the edit succeeds; the next edit shows the count.

mod outcome;
mod record;
mod turns;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

pub use self::outcome::{Accepted, Failure, Notice, Outcome, Refusal};
use self::{
    record::forget_root,
    turns::{PostResult, Posting, Turn, Turns},
};
use super::{
    Decision, Id, Incident, Key, Kind, Policy, Root, Signal, Transition, next,
    store::{
        Lease, Store,
        ledger::{Conflict, Ledger, Loaded, STORE_TIMEOUT},
    },
};
use crate::{metrics, shutdown::StopSignal};

/// How long a lease is valid. After a crash, other replicas wait until it expires.
const LEASE: Duration = Duration::from_secs(10);
/// The time between two reads of a lease that another replica holds.
const LEASE_POLL: Duration = Duration::from_millis(300);
/// How often a conflict is retried at once.
const CONFLICTS: u32 = 20;

/// Decides whether alerts are reported, and records the reports.
pub struct NotificationLog {
    ledger: Ledger,
    /// Identifies this log among those that share the store.
    holder: Id,
    turns: Turns,
    /// How many alerts of one channel may wait for others' reports.
    share: usize,
    /// During shutdown, the log does not wait for other replicas.
    stop: Option<StopSignal>,
    clock: Box<dyn Fn() -> OffsetDateTime + Send + Sync>,
}

impl fmt::Debug for NotificationLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationLog").field("ledger", &self.ledger).field("holder", &self.holder).finish()
    }
}

/// The result of [`NotificationLog::decide`], inside the incident's turn.
enum Step<'a> {
    Done(Outcome),
    /// A repeat was recorded; it may be shown.
    Show(Arc<Incident>),
    /// Another task of this process is posting.
    Join(watch::Receiver<Option<PostResult>>),
    /// Another replica holds the lease.
    AwaitLease,
    /// Another replica wrote the item first.
    Conflict,
    /// This task posts.
    Post(Report<'a>),
}

/// A report that may begin: no other is in progress.
struct Report<'a> {
    loaded: Loaded,
    notice: Notice,
    posting: Posting<'a>,
    /// The log does not wait for the store beyond this instant.
    deadline: Instant,
}

impl NotificationLog {
    /// A log on this store. At most `share` alerts of one channel may wait for others' reports, so that a blocked channel leaves room
    /// for the other channels. Further alerts are put back at once.
    pub fn new(store: Store, share: usize) -> Self {
        Self::with_clock(store, share, OffsetDateTime::now_utc)
    }

    fn with_clock(store: Store, share: usize, clock: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        let holder = Id(fastrand::u128(..).to_be_bytes());
        Self { ledger: Ledger::new(store), holder, turns: Turns::default(), share, stop: None, clock: Box::new(clock) }
    }

    /// The same log, which does not wait for other replicas during shutdown.
    pub fn until(self, stop: &StopSignal) -> Self {
        Self { stop: Some(stop.clone()), ..self }
    }

    /// Reports an alert to one channel. `post` sends a notice to Slack. Except for `post`, nothing is awaited beyond `start_by`.
    ///
    /// # Errors
    /// When the message must stay in the queue.
    pub async fn report<P, F, E>(
        &self,
        key: &Key,
        mut signal: Signal,
        policy: &Policy,
        start_by: Instant,
        post: P,
    ) -> Result<Outcome, Failure<E>>
    where
        P: Fn(Notice) -> F,
        F: Future<Output = Result<Accepted, Refusal<E>>>,
        E: fmt::Display,
    {
        let mut gone = None;
        let mut has_mentioned = false;
        let mut conflicts = 0;
        loop {
            let turn = self.turns.take(key).await;
            let step = self.decide(&turn, &signal, policy, gone.as_ref()).await;
            drop(turn);
            match step {
                Step::Done(outcome) => return Ok(outcome),
                Step::Show(mut incident) => loop {
                    match post(repeat(Arc::clone(&incident))).await {
                        Ok(Accepted::Posted(_) | Accepted::Edited) => {
                            let Some(later) = self.changed_since(key, &incident, start_by).await else {
                                return Ok(Outcome::Edited);
                            };
                            incident = later;
                        }
                        Err(Refusal::RootGone { .. }) if gone.is_none() => break gone.clone_from(&incident.root),
                        Ok(Accepted::Nothing) | Err(_) => return Ok(Outcome::Folded),
                    }
                },
                Step::Join(mut result) => {
                    let _waiting = self.turns.wait(key, self.share).ok_or(Failure::Busy)?;
                    match timeout_at(start_by, result.wait_for(Option::is_some)).await {
                        Ok(Ok(result)) => {
                            if let Some(PostResult::Failed(error)) = &*result {
                                return Err(Failure::Joined(Arc::clone(error)));
                            }
                        }
                        // The other task was dropped.
                        Ok(Err(_)) => {}
                        Err(_) => return Err(Failure::Busy),
                    }
                }
                Step::AwaitLease if !self.may_wait_for_lease(start_by) => return Err(Failure::Busy),
                Step::AwaitLease => {
                    let _waiting = self.turns.wait(key, self.share).ok_or(Failure::Busy)?;
                    sleep(LEASE_POLL).await;
                }
                Step::Conflict if conflicts == CONFLICTS => return Err(Failure::Busy),
                Step::Conflict => {
                    conflicts += 1;
                    sleep(Duration::from_millis(fastrand::u64(1..20))).await;
                }
                Step::Post(mut report) => {
                    if self.check_noted_recovery(key, &mut signal, policy, &mut report).await {
                        self.release_lease(key, report.loaded).await;
                        continue;
                    }
                    let Report { mut loaded, mut notice, posting, .. } = report;
                    notice.mentions &= !has_mentioned;
                    match self.keep_lease(key, notice.transition, post(notice.clone())).await {
                        Ok(accepted) => {
                            let root = match accepted {
                                Accepted::Posted(root) => Some(root),
                                Accepted::Edited | Accepted::Nothing => notice.incident.root.clone(),
                            };
                            self.record(key, &signal, policy, loaded, &notice, root, gone.as_ref()).await;
                            posting.end(PostResult::Accepted);
                            return Ok(Outcome::Reported(notice.transition));
                        }
                        Err(Refusal::RootGone { replied }) if gone.is_none() && notice.incident.root.is_some() => {
                            has_mentioned = replied && notice.mentions;
                            gone.clone_from(&notice.incident.root);
                            self.release_lease(key, loaded).await;
                        }
                        Err(Refusal::RootGone { .. }) => {
                            if let Some(known) = &mut loaded.item.incident {
                                Arc::make_mut(known).root = None;
                            }
                            self.release_lease(key, loaded).await;
                            posting.end(PostResult::Failed("its first message is gone".into()));
                            return Err(Failure::Busy);
                        }
                        Err(Refusal::Failed(error)) => {
                            self.release_lease(key, loaded).await;
                            posting.end(PostResult::Failed(error.to_string().into()));
                            return Err(Failure::Post(error));
                        }
                    }
                }
            }
        }
    }

    /// For each of these incidents, whether it is open or being opened. All are about the signal's subject, each in one channel. The
    /// channels with an open incident receive the recovery, and failed starts that may heal by themselves.
    ///
    /// A recovery that ECS does not deny is noted first. Then a problem that arrives later but happened earlier is reported as recovered.
    /// A recovery that ECS denies is not noted: it should be put back even if no incident is open.
    pub async fn open_in(&self, signal: &Signal, keys: &[Key]) -> Vec<bool> {
        let deadline = Instant::now() + STORE_TIMEOUT;
        if let (Kind::Recovery { confirmed: Some(true) | None }, Some(key)) = (signal.kind, keys.first()) {
            self.ledger.note_recovery(key, signal.time, deadline).await;
        }
        let now = (self.clock)();
        let is_open = keys.iter().map(async |key| {
            if self.turns.posting(key).is_some() {
                return true;
            }
            let item = self.ledger.load(key, deadline).await.item;
            let is_open = |incident: &Incident| incident.is_open() && !incident.is_forgotten(now);
            item.lease.is_some_and(|lease| lease.until > now) || item.incident.as_deref().is_some_and(is_open)
        });
        join_all(is_open).await
    }

    /// Whether Slack has the incident, and the incident has counted this event, as far as this process knows. Then ECS need not be asked
    /// about the event.
    pub fn has_counted(&self, key: &Key, id: Id) -> bool {
        let known = self.ledger.known(key).filter(|incident| !incident.is_forgotten((self.clock)()));
        known.is_some_and(|incident| incident.has_reported(id))
    }

    /// The number of open incidents that this process knows, by the channel's name, for the gauge `incidents_open`.
    pub fn open_by_channel(&self) -> HashMap<String, usize> {
        self.ledger.open_by_channel((self.clock)())
    }

    /// Decides. Then records the decision if it needs no answer from Slack, or else takes the lease.
    async fn decide<'a>(&'a self, turn: &Turn<'a>, signal: &Signal, policy: &Policy, gone: Option<&Root>) -> Step<'a> {
        let key = turn.key();
        let deadline = Instant::now() + STORE_TIMEOUT;
        let mut loaded = self.ledger.load(key, deadline).await;
        forget_root(&mut loaded, gone);
        let now = (self.clock)();
        let (decision, incident) = next(loaded.item.incident.as_deref(), signal, policy, now);
        let repeats = matches!(decision, Decision::Transition { transition: Transition::Repeated, .. });
        let reports = matches!(decision, Decision::Transition { .. }) && !repeats;
        let is_recovery = matches!(signal.kind, Kind::Recovery { .. });

        // A recovery waits for the result of the report in progress, and a problem waits for a recovery in progress.
        if let Some(posting) = self.turns.posting(key)
            && (reports || is_recovery && decision != Decision::Duplicate || repeats && posting.recovers)
        {
            return Step::Join(posting.result);
        }
        let lease = loaded.item.lease.filter(|lease| lease.holder != self.holder && lease.until > now);
        if let Some(lease) = lease
            && (reports || is_recovery && decision != Decision::Duplicate || repeats && lease.recovers)
        {
            return Step::AwaitLease;
        }
        let (outcome, transition, mentions) = match decision {
            Decision::Duplicate => return Step::Done(Outcome::Duplicate),
            Decision::NoIncident => return Step::Done(Outcome::NoIncident),
            Decision::PutBack => (Some(Outcome::Unconfirmed), Transition::Repeated, false),
            Decision::Transition { transition, mentions } => (None, transition, mentions),
        };
        // Every other decision has an incident.
        let Some(incident) = incident.map(Arc::new) else { return Step::Done(Outcome::NoIncident) };
        if reports {
            let recovers = transition == Transition::Recovered;
            loaded.item.lease = Some(Lease { holder: self.holder, until: now + LEASE, recovers });
            return match self.ledger.save(key, &mut loaded, deadline).await {
                Err(Conflict) => Step::Conflict,
                Ok(()) => {
                    let notice = Notice { transition, mentions, incident };
                    Step::Post(Report { loaded, notice, posting: self.turns.begin(key, recovers), deadline })
                }
            };
        }
        loaded.item.incident = Some(Arc::clone(&incident));
        match self.ledger.save(key, &mut loaded, deadline).await {
            Err(Conflict) => Step::Conflict,
            Ok(()) => match outcome {
                Some(outcome) => Step::Done(outcome),
                None => {
                    metrics::incident(key.channel(), transition.as_str());
                    Step::Show(incident)
                }
            },
        }
    }

    /// Checks, before an incident is opened, whether the subject has recovered while no incident was open. A problem takes the lease and
    /// then looks for a noted recovery. A recovery is noted and then looks for leases ([`Self::open_in`]). So one of the two always finds
    /// the other. Returns whether to decide again.
    async fn check_noted_recovery(
        &self,
        key: &Key,
        signal: &mut Signal,
        policy: &Policy,
        report: &mut Report<'_>,
    ) -> bool {
        if !matches!(report.notice.transition, Transition::Opened | Transition::Reopened) {
            return false;
        }
        let noted = self.ledger.last_recovery(key, report.deadline).await;
        if noted.is_none() || noted <= signal.noted_recovery {
            return false;
        }
        signal.noted_recovery = noted;
        match next(report.loaded.item.incident.as_deref(), signal, policy, (self.clock)()) {
            (Decision::Transition { transition, mentions }, Some(incident)) if transition.is_reported() => {
                report.notice = Notice { transition, mentions, incident: Arc::new(incident) };
                false
            }
            _ => true,
        }
    }

    /// Whether there is time to wait for another replica.
    fn may_wait_for_lease(&self, start_by: Instant) -> bool {
        let is_stopping = self.stop.as_ref().is_some_and(|stop| stop.borrow().is_some());
        !is_stopping && Instant::now() + LEASE_POLL < start_by
    }

    /// The current incident, if it has recovered or reopened since `shown`. An edit may wait for Slack's rate limit while another
    /// replica reports the recovery; the root must then show the recovery.
    async fn changed_since(&self, key: &Key, shown: &Incident, start_by: Instant) -> Option<Arc<Incident>> {
        loop {
            let item = self.ledger.load(key, Instant::now() + STORE_TIMEOUT).await.item;
            let ends = item
                .lease
                .is_some_and(|lease| lease.recovers && lease.holder != self.holder && lease.until > (self.clock)());
            if !ends || !self.may_wait_for_lease(start_by) {
                return item.incident.filter(|now| now.root == shown.root && now.recovered != shown.recovered);
            }
            sleep(LEASE_POLL).await;
        }
    }
}

fn repeat(incident: Arc<Incident>) -> Notice {
    Notice { transition: Transition::Repeated, mentions: false, incident }
}

#[cfg(test)]
mod tests;
