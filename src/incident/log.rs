//! Reports alerts, an incident at a time: decide, post, then record what Slack accepted.
//!
//! [`NotificationLog::report`] is called for each alert and channel. It reads the incident, decides with [`next`], posts what is
//! news by a closure of the caller's, and records the incident after Slack's answer, never before. So a crash at any point loses
//! nothing: the message is still in the queue, and the next attempt decides by what is recorded.
//!
//! # Who waits for whom
//!
//! Of all that concerns one incident, one report is under way at a time:
//!
//! * In this process, alerts that would be reported join the one that is being posted: they wait for it and share its failure.
//!   If it was accepted they decide again, mostly to be folded. ([`turns`])
//! * Among replicas, who wants to post first takes a short lease, by a conditional write, and extends it while it waits for Slack. Who
//!   finds a lease waits until it is given back or expires, or is put back for a few seconds ([`Failure::Busy`]).
//! * What repeats an incident that Slack has waits for neither, unless the recovery is being posted: which of the two is
//!   the later must be known.
//!
//! # Repeats
//!
//! A repeat is first recorded and then shown, by an edit of the root where the channel can do that. Slack has the incident, and it has counted the event: the message may be
//! deleted whether or not the edit succeeds, and the next edit shows the count.

mod outcome;
mod turns;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};

pub use self::outcome::{Accepted, Failure, Notice, Outcome, Refusal};
use self::turns::{Fate, Posting, Turn, Turns};
use super::{
    Decision, Id, Incident, Key, Kind, Policy, Root, Signal, Transition, next,
    store::{
        Lease, Store,
        ledger::{Conflict, Ledger, Loaded, PATIENCE},
    },
};
use crate::{metrics, shutdown::Stop};

/// A lease is valid for so long. After a crash, other replicas wait for it to expire.
const LEASE: Duration = Duration::from_secs(10);
/// Between two looks at a lease that another replica holds.
const LOOK: Duration = Duration::from_millis(300);
/// So often a conflict is tried to be resolved at once.
const CONFLICTS: u32 = 20;

/// Decides about alerts, and keeps what was reported.
pub struct NotificationLog {
    ledger: Ledger,
    /// This log, among those that share the store.
    holder: Id,
    turns: Turns,
    /// So many alerts of one channel may wait for reports of others.
    share: usize,
    /// Once the program ends, nobody waits for another replica.
    stop: Option<Stop>,
    clock: Box<dyn Fn() -> OffsetDateTime + Send + Sync>,
}

impl fmt::Debug for NotificationLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationLog").field("ledger", &self.ledger).field("holder", &self.holder).finish()
    }
}

/// What [`NotificationLog::decide`] came to, inside the incident's turn.
enum Step<'a> {
    Done(Outcome),
    /// It is recorded; now it may be shown.
    Show(Arc<Incident>),
    /// Another task of this process posts.
    Join(watch::Receiver<Option<Fate>>),
    /// Another replica posts.
    Look,
    /// Another replica was faster.
    Conflict,
    /// This is to post.
    Post(Report<'a>),
}

/// A report that may begin: nobody else has one under way.
struct Report<'a> {
    loaded: Loaded,
    notice: Notice,
    posting: Posting<'a>,
    /// The store is not waited for beyond this.
    deadline: Instant,
}

impl NotificationLog {
    /// A log on this store. Of the alerts of one channel, `share` may wait for the reports of others, so that a channel that is blocked leaves
    /// the others room; more are put back at once.
    pub fn new(store: Store, share: usize) -> Self {
        Self::with_clock(store, share, OffsetDateTime::now_utc)
    }

    fn with_clock(store: Store, share: usize, clock: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        let holder = Id(fastrand::u128(..).to_be_bytes());
        Self { ledger: Ledger::new(store), holder, turns: Turns::default(), share, stop: None, clock: Box::new(clock) }
    }

    /// The same, which waits for no other replica once the program ends.
    pub fn until(self, stop: &Stop) -> Self {
        Self { stop: Some(stop.clone()), ..self }
    }

    /// Brings an alert to its outcome in one channel. `post` asks Slack for what a notice says; nothing is awaited for longer than until
    /// `start_by`, besides `post` itself.
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
                Step::Join(mut fate) => {
                    let _waiting = self.turns.wait(key, self.share).ok_or(Failure::Busy)?;
                    match timeout_at(start_by, fate.wait_for(Option::is_some)).await {
                        Ok(Ok(fate)) => {
                            if let Some(Fate::Failed(error)) = &*fate {
                                return Err(Failure::Joined(Arc::clone(error)));
                            }
                        }
                        // It was given up.
                        Ok(Err(_)) => {}
                        Err(_) => return Err(Failure::Busy),
                    }
                }
                Step::Look if !self.may_look(start_by) => return Err(Failure::Busy),
                Step::Look => {
                    let _waiting = self.turns.wait(key, self.share).ok_or(Failure::Busy)?;
                    sleep(LOOK).await;
                }
                Step::Conflict if conflicts == CONFLICTS => return Err(Failure::Busy),
                Step::Conflict => {
                    conflicts += 1;
                    sleep(Duration::from_millis(fastrand::u64(1..20))).await;
                }
                Step::Post(mut report) => {
                    if self.learn_of_recovery(key, &mut signal, policy, &mut report).await {
                        self.give_back(key, report.loaded).await;
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
                            posting.end(Fate::Accepted);
                            return Ok(Outcome::Reported(notice.transition));
                        }
                        Err(Refusal::RootGone { replied }) if gone.is_none() && notice.incident.root.is_some() => {
                            has_mentioned = replied && notice.mentions;
                            gone.clone_from(&notice.incident.root);
                            self.give_back(key, loaded).await;
                        }
                        Err(Refusal::RootGone { .. }) => {
                            if let Some(known) = &mut loaded.item.incident {
                                Arc::make_mut(known).root = None;
                            }
                            self.give_back(key, loaded).await;
                            posting.end(Fate::Failed("its first message is gone".into()));
                            return Err(Failure::Busy);
                        }
                        Err(Refusal::Failed(error)) => {
                            self.give_back(key, loaded).await;
                            posting.end(Fate::Failed(error.to_string().into()));
                            return Err(Failure::Post(error));
                        }
                    }
                }
            }
        }
    }

    /// Which of these channels' incidents, all of the signal's subject, are open or being opened: they have heard of the trouble, so
    /// they are to hear of its end, and of starts that may heal. A recovery that nobody refutes is noted first, for trouble that comes late: it is then
    /// reported as over. One that is refuted is not noted: it should be put back even where nothing is open.
    pub async fn open_in(&self, signal: &Signal, keys: &[Key]) -> Vec<bool> {
        let deadline = Instant::now() + PATIENCE;
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

    /// Whether Slack has this event in its incident, as far as this process knows: then it need not be asked about.
    pub fn has_counted(&self, key: &Key, id: Id) -> bool {
        let known = self.ledger.known(key).filter(|incident| !incident.is_forgotten((self.clock)()));
        known.is_some_and(|incident| incident.has_shown(id))
    }

    /// How many open incidents this process knows, by the channel's name; for the gauge `incidents_open`.
    pub fn open_by_channel(&self) -> HashMap<String, usize> {
        self.ledger.open_by_channel((self.clock)())
    }

    /// Decides, and records what needs no answer of Slack's, or takes the lease for what does.
    async fn decide<'a>(&'a self, turn: &Turn<'a>, signal: &Signal, policy: &Policy, gone: Option<&Root>) -> Step<'a> {
        let key = turn.key();
        let deadline = Instant::now() + PATIENCE;
        let mut loaded = self.ledger.load(key, deadline).await;
        forget_root(&mut loaded, gone);
        let now = (self.clock)();
        let (decision, incident) = next(loaded.item.incident.as_deref(), signal, policy, now);
        let repeats = matches!(decision, Decision::Transition { transition: Transition::Repeated, .. });
        let reports = matches!(decision, Decision::Transition { .. }) && !repeats;
        let is_recovery = matches!(signal.kind, Kind::Recovery { .. });

        // A recovery must know how the report that is under way ends, and a problem must know of the recovery.
        if let Some(posting) = self.turns.posting(key)
            && (reports || is_recovery && decision != Decision::Duplicate || repeats && posting.recovers)
        {
            return Step::Join(posting.fate);
        }
        let lease = loaded.item.lease.filter(|lease| lease.holder != self.holder && lease.until > now);
        if let Some(lease) = lease
            && (reports || is_recovery && decision != Decision::Duplicate || repeats && lease.recovers)
        {
            return Step::Look;
        }
        let (outcome, transition, mentions) = match decision {
            Decision::Duplicate => return Step::Done(Outcome::Duplicate),
            Decision::AsBefore => return Step::Done(Outcome::AsBefore),
            Decision::PutBack => (Some(Outcome::Unconfirmed), Transition::Repeated, false),
            Decision::Transition { transition, mentions } => (None, transition, mentions),
        };
        // Every other decision comes with an incident.
        let Some(incident) = incident.map(Arc::new) else { return Step::Done(Outcome::AsBefore) };
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

    /// Before an incident is opened: has the subject recovered since, while nothing was open? It is asked after the lease is taken, and
    /// a recovery is noted before leases are looked at ([`Self::open_in`]), so that one of the two learns of the other. Returns whether to decide again.
    async fn learn_of_recovery(
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
        if noted.is_none() || noted <= signal.well_since {
            return false;
        }
        signal.well_since = noted;
        match next(report.loaded.item.incident.as_deref(), signal, policy, (self.clock)()) {
            (Decision::Transition { transition, mentions }, Some(incident)) if transition.is_reported() => {
                report.notice = Notice { transition, mentions, incident: Arc::new(incident) };
                false
            }
            _ => true,
        }
    }

    /// Awaits the post, and extends the lease meanwhile.
    async fn keep_lease<T>(&self, key: &Key, transition: Transition, post: impl Future<Output = T>) -> T {
        let mut post = std::pin::pin!(post);
        let mut extend_at = Instant::now() + LEASE / 3;
        loop {
            tokio::select! {
                biased;
                answer = &mut post => return answer,
                () = sleep_until(extend_at) => {
                    let recovers = transition == Transition::Recovered;
                    let lease = Lease { holder: self.holder, until: (self.clock)() + LEASE, recovers };
                    self.ledger.extend(key, &lease, Instant::now() + PATIENCE).await;
                    extend_at = Instant::now() + LEASE / 3;
                }
            }
        }
    }

    /// Records what Slack accepted, and gives the lease back.
    #[expect(clippy::too_many_arguments, reason = "what was decided, what came of it, and for whom")]
    async fn record(
        &self,
        key: &Key,
        signal: &Signal,
        policy: &Policy,
        mut loaded: Loaded,
        notice: &Notice,
        root: Option<Root>,
        gone: Option<&Root>,
    ) {
        let mut incident = Incident::clone(&notice.incident).moved_to(root.clone());
        let _turn = self.turns.take(key).await;
        for _ in 0..CONFLICTS {
            if notice.transition == Transition::Recovered {
                incident.others.clear();
            }
            loaded.item.incident = Some(Arc::new(incident.clone()));
            loaded.item.lease = None;
            if self.ledger.save(key, &mut loaded, Instant::now() + PATIENCE).await.is_ok() {
                break;
            }
            // Others counted events meanwhile: this one is counted on top.
            loaded = self.ledger.load(key, Instant::now() + PATIENCE).await;
            forget_root(&mut loaded, gone);
            let known = loaded.item.incident.take();
            let (_, with_this) = next(known.as_deref(), signal, policy, (self.clock)());
            if let Some(merged) = with_this.or(known.map(Arc::unwrap_or_clone)) {
                let reported = incident.reported.max(merged.reported);
                // Slack shows it as recovered: a problem that came meanwhile is for the next one to reopen it.
                let recovered = match notice.transition {
                    Transition::Recovered => incident.recovered.max(merged.recovered),
                    _ => merged.recovered,
                };
                // Another replica may have opened it meanwhile, and then its root stays.
                let root = match &merged.root {
                    Some(theirs) if notice.incident.root.as_ref() != Some(theirs) => Some(theirs.clone()),
                    _ => root.clone(),
                };
                incident = Incident { reported, recovered, ..merged.moved_to(root) };
            }
        }
        metrics::incident(key.channel(), notice.transition.as_str());
        if let (Transition::Recovered, Some(duration)) = (notice.transition, notice.incident.duration()) {
            metrics::incident_duration(key.channel(), duration);
        }
    }

    /// Whether there is time to see what another replica comes to.
    fn may_look(&self, start_by: Instant) -> bool {
        let is_stopping = self.stop.as_ref().is_some_and(|stop| stop.borrow().is_some());
        !is_stopping && Instant::now() + LOOK < start_by
    }

    /// The incident as it is now, if it has ended or begun again since it was shown so. An edit may wait for Slack's rate while another
    /// replica reports the end; then it must not be the last word.
    async fn changed_since(&self, key: &Key, shown: &Incident, start_by: Instant) -> Option<Arc<Incident>> {
        loop {
            let item = self.ledger.load(key, Instant::now() + PATIENCE).await.item;
            let ends = item
                .lease
                .is_some_and(|lease| lease.recovers && lease.holder != self.holder && lease.until > (self.clock)());
            if !ends || !self.may_look(start_by) {
                return item.incident.filter(|now| now.root == shown.root && now.recovered != shown.recovered);
            }
            sleep(LOOK).await;
        }
    }

    /// Gives the lease back. If that fails, it expires.
    async fn give_back(&self, key: &Key, mut loaded: Loaded) {
        let _turn = self.turns.take(key).await;
        loaded.item.lease = None;
        let _ = self.ledger.save(key, &mut loaded, Instant::now() + PATIENCE).await;
    }
}

fn repeat(incident: Arc<Incident>) -> Notice {
    Notice { transition: Transition::Repeated, mentions: false, incident }
}

/// The root that Slack no longer has.
fn forget_root(loaded: &mut Loaded, gone: Option<&Root>) {
    if let Some(incident) =
        loaded.item.incident.as_mut().filter(|incident| gone.is_some() && incident.root.as_ref() == gone)
    {
        Arc::make_mut(incident).root = None;
    }
}

#[cfg(test)]
mod tests;
