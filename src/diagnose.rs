//! Asks ECS about the service of an alert before it is posted, and is never in the way.
//!
//! An alert waits for the answer no longer than a time-out; whatever goes wrong, it goes out as it was. The API's rate is
//! shared by all that an account does, so few requests are under way at once, a service is asked about once a minute,
//! however many alerts there are, and a storm gets answers for as many services as [`BURST`] allows.

mod inquiry;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::future::Cache;
use time::OffsetDateTime;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tracing::{debug, warn};

use self::inquiry::Inquiry;
use crate::{
    alert::{Alert, CrashLoopRule},
    aws::ErrorClass,
    diagnosis::{Diagnosis, Service, Tags, target_groups_in},
    ecs::{Described, Ecs, EcsError, LIST_TAGS},
    event::Arn,
    metrics::{self, DiagnosisOutcome},
    shutdown::StopSignal,
};

/// Services asked about at once.
const CONCURRENT: usize = 8;
/// Services asked about in a row, when nothing was asked for a while. Of a bucket of a hundred that reads of services share, each takes
/// three; the other buckets give less: tasks two, for each hundred that stopped, and task definitions two.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>
const BURST: u32 = 20;
/// After a burst, one service each so often: ten requests a second, half of what the bucket is refilled with.
const INTERVAL: Duration = Duration::from_millis(500);
/// Services whose tags alone are asked for in a row, where no diagnosis is needed or allowed: one of that bucket each.
const TAGS_BURST: u32 = 40;
/// After that, five a second: with the diagnoses, three quarters of what the bucket is refilled with.
const TAGS_INTERVAL: Duration = Duration::from_millis(200);
/// For how long ECS surely remembers a stopped task; it promises an hour.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>
const MEMORY: Duration = Duration::from_secs(55 * 60);
/// How long an answer holds, a failure too.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How ECS is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiagnoseSettings {
    /// The longest that an alert waits for it.
    pub timeout: Duration,
    /// How much of the log of a container that crashed is read, in lines; none is the default, since nobody knows what it
    /// holds.
    pub log_lines: usize,
    /// When exits of tasks are a crash loop, and till then routine; none: each is an alert.
    pub crash_loop: Option<CrashLoopRule>,
    /// What the tags of services are for.
    pub tags: Tagging,
}

/// What the tags of services are for; where it is nothing, they are not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tagging {
    /// The keys of those that alerts show.
    pub shown: Vec<String>,
    /// Whether a pattern names some.
    pub are_matched: bool,
}

impl Tagging {
    fn are_wanted(&self) -> bool {
        self.are_matched || !self.shown.is_empty()
    }
}

/// Whom to ask about a service.
#[derive(Debug)]
pub struct Diagnoser {
    ecs: Ecs,
    settings: DiagnoseSettings,
    stop: StopSignal,
    recent: Cache<Service, Asked>,
    tags: Cache<Service, Tagged>,
    allowance: Mutex<Allowance>,
    tags_allowance: Mutex<Allowance>,
    slots: Semaphore,
    /// Actions that were denied, and reported.
    denied: Mutex<HashSet<&'static str>>,
}

/// What came of asking.
#[derive(Debug, Clone)]
struct Asked {
    outcome: DiagnosisOutcome,
    diagnosis: Option<Arc<Diagnosis>>,
    /// None where they were not asked for.
    tags: Option<Tagged>,
}

/// The tags of a service, or why they are not known.
type Tagged = Result<Arc<Tags>, DiagnosisOutcome>;

impl Asked {
    fn in_vain(outcome: DiagnosisOutcome) -> Self {
        Self { outcome, diagnosis: None, tags: None }
    }

    /// Whether it is too old to know that this task stopped.
    fn lacks(&self, task: &str) -> bool {
        let knows = |diagnosis: &Diagnosis| diagnosis.stops.iter().any(|stop| stop.task == task);
        self.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.tasks_known && !knows(diagnosis))
    }
}

/// Not asked, to spare the API: the next alert may try.
struct Busy;

impl Diagnoser {
    /// A diagnoser that has not asked yet.
    pub fn new(aws: &aws_config::SdkConfig, settings: DiagnoseSettings, stop: StopSignal) -> Self {
        Self {
            ecs: Ecs::new(aws),
            settings,
            stop,
            recent: Cache::builder().max_capacity(1_000).time_to_live(REMEMBERED).build(),
            tags: Cache::builder().max_capacity(1_000).time_to_live(REMEMBERED).build(),
            allowance: Mutex::new(Allowance::new(Instant::now(), BURST, INTERVAL)),
            tags_allowance: Mutex::new(Allowance::new(Instant::now(), TAGS_BURST, TAGS_INTERVAL)),
            slots: Semaphore::new(CONCURRENT),
            denied: Mutex::new(HashSet::new()),
        }
    }

    /// The alert with what ECS says about its service and its tags, or as it was.
    pub async fn diagnose(&self, alert: &Arc<Alert>) -> Arc<Alert> {
        let Some(service) = alert.service.as_ref().filter(|_| alert.is_explicable) else {
            return self.tag(alert).await;
        };
        let mut stop = self.stop.clone();
        let skipped = Asked::in_vain(DiagnosisOutcome::Skipped);
        let asked = tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => skipped,
            asked = self.asked(alert, service) => asked.unwrap_or(skipped),
        };
        metrics::diagnosis(asked.outcome);
        let diagnosed = match asked.diagnosis {
            Some(diagnosis) => {
                Arc::new(Alert::clone(alert).with_diagnosis(Diagnosis::clone(&diagnosis), self.rule(alert)))
            }
            None => Arc::clone(alert),
        };
        match asked.tags {
            Some(tagged) => self.with_tags(&diagnosed, tagged),
            // Nothing was asked.
            None => self.tag(&diagnosed).await,
        }
    }

    /// The alert with the tags of its service, or as it was. That is a single request where they are not cached.
    pub async fn tag(&self, alert: &Arc<Alert>) -> Arc<Alert> {
        let Some(service) = alert.service.as_ref().filter(|_| self.settings.tags.are_wanted()) else {
            return Arc::clone(alert);
        };
        let mut stop = self.stop.clone();
        let tagged = tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => Err(DiagnosisOutcome::Skipped),
            tagged = self.tags.try_get_with_by_ref(service, self.ask_for_tags(service)) => {
                tagged.unwrap_or(Err(DiagnosisOutcome::Skipped))
            }
        };
        self.with_tags(alert, tagged)
    }

    fn with_tags(&self, alert: &Arc<Alert>, tagged: Tagged) -> Arc<Alert> {
        metrics::service_tags(tagged.as_ref().err().copied().unwrap_or(DiagnosisOutcome::Ok));
        match tagged {
            Ok(tags) => Arc::new(Alert::clone(alert).with_tags(Tags::clone(&tags), &self.settings.tags.shown)),
            Err(_) => Arc::clone(alert),
        }
    }

    /// By which rule an alert of this time is judged: none where ECS may have forgotten what stopped before it.
    fn rule(&self, alert: &Alert) -> Option<CrashLoopRule> {
        let is_remembered = |rule: &CrashLoopRule| {
            alert.time.is_some_and(|time| OffsetDateTime::now_utc() - time < MEMORY.saturating_sub(rule.within))
        };
        self.settings.crash_loop.filter(is_remembered)
    }

    /// Whether all is well with the alert's service, as far as ECS can be asked: as many tasks run as should, no deployment is
    /// under way or has failed, and no task has died within the crash-loop window.
    ///
    /// The alert comes back with what ECS says now.
    pub async fn confirm_recovery(&self, alert: Arc<Alert>) -> (Arc<Alert>, Option<bool>) {
        let Some(service) = &alert.service else { return (alert, None) };
        // What is cached is of the time before the recovery.
        self.recent.invalidate(service).await;
        let alert = self.diagnose(&alert).await;
        let rule = self.settings.crash_loop.unwrap_or(CrashLoopRule::DEFAULT);
        let diagnosis = alert.diagnosis.as_ref().filter(|diagnosis| diagnosis.tasks_known);
        let is_well = diagnosis.map(|diagnosis| diagnosis.is_well(rule.within));
        (alert, is_well)
    }

    /// What was answered of late, or else is now.
    async fn asked(&self, alert: &Alert, service: &Service) -> Result<Asked, Arc<Busy>> {
        let entry = self.recent.entry_by_ref(service).or_try_insert_with(self.ask(alert, service)).await?;
        let lacks = |task: &String| entry.value().lacks(task);
        if entry.is_fresh() || !alert.exited.as_ref().is_some_and(lacks) {
            return Ok(entry.into_value());
        }
        // It tells of the time before this task stopped.
        self.recent.invalidate(service).await;
        self.recent.try_get_with_by_ref(service, self.ask(alert, service)).await
    }

    async fn ask(&self, alert: &Alert, service: &Service) -> Result<Asked, Busy> {
        let now = Instant::now();
        if self.allowance.lock().unwrap_or_else(PoisonError::into_inner).turn(now, Duration::ZERO).is_none() {
            return Err(Busy);
        }
        let deadline = now + self.settings.timeout;
        let Ok(_slot) = timeout_at(deadline, self.slots.acquire()).await else { return Err(Busy) };
        let inquiry = Inquiry::new(&self.ecs, service, deadline, &self.settings);
        let named = alert.reason.as_deref().into_iter().flat_map(target_groups_in).take(1).map(str::to_owned);
        // In a box, for each message in flight has room for this future, twelve KB of it, whether or not it asks.
        let (diagnosis, tags, shortfall) = Box::pin(inquiry.run(named.collect())).await;
        let is_complete = shortfall.failed.is_empty() && !shortfall.late;
        let (mut refusal, mut tags_refusal) = (None, None);
        for error in shortfall.failed {
            let action = error.action;
            let outcome = self.tell(error);
            match action {
                "ecs:DescribeServices" => refusal = Some(outcome),
                LIST_TAGS => tags_refusal = Some(outcome),
                _ => {}
            }
        }
        let outcome = match (&diagnosis, refusal) {
            (Some(_), _) if is_complete => DiagnosisOutcome::Ok,
            (Some(_), _) => DiagnosisOutcome::Partial,
            (None, Some(outcome)) => outcome,
            (None, None) if shortfall.late => DiagnosisOutcome::Timeout,
            (None, None) => DiagnosisOutcome::Unknown,
        };
        let tagged = match tags.map(Arc::new) {
            Some(tags) => Ok(tags),
            None => Err(tags_refusal.unwrap_or(outcome)),
        };
        let tags = if self.settings.tags.are_wanted() { Some(self.latest(service, tagged).await) } else { None };
        Ok(Asked { outcome, diagnosis: diagnosis.map(Arc::new), tags })
    }

    /// The tags as they were just answered; where they were not, as they are cached.
    async fn latest(&self, service: &Service, tagged: Tagged) -> Tagged {
        if tagged.is_ok() {
            self.tags.insert(service.clone(), tagged.clone()).await;
            return tagged;
        }
        self.tags.get(service).await.filter(Result::is_ok).unwrap_or(tagged)
    }

    async fn ask_for_tags(&self, service: &Service) -> Result<Tagged, Busy> {
        let now = Instant::now();
        let deadline = now + self.settings.timeout;
        // It may decide where the alert goes, so rather late than not at all.
        let patience = self.settings.timeout / 2;
        let turn = self.tags_allowance.lock().unwrap_or_else(PoisonError::into_inner).turn(now, patience);
        sleep_until(turn.ok_or(Busy)?).await;
        let Ok(_slot) = timeout_at(deadline, self.slots.acquire()).await else { return Err(Busy) };
        let Ok(described) = timeout_at(deadline, self.ecs.describe_service(service, true)).await else {
            return Ok(Err(DiagnosisOutcome::Timeout));
        };
        Ok(match described {
            Ok(Described { tags_refused: Some(error), .. }) | Err(error) => Err(self.tell(error)),
            Ok(Described { answer, .. }) => answer
                .pointer("/services/0")
                .map(|service| Arc::new(Tags::of(service)))
                .ok_or(DiagnosisOutcome::Unknown),
        })
    }

    /// Logs a failure: a missing permission once, since only the operator can mend it.
    fn tell(&self, error: EcsError) -> DiagnosisOutcome {
        let (action, class) = (error.action, error.class);
        match class {
            ErrorClass::Denied => {
                if self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(action) {
                    let error = error.chain();
                    let cost = self.settings.cost_of(action);
                    warn!(action, error, "the role lacks {action}; without it {cost}");
                }
                DiagnosisOutcome::Denied
            }
            ErrorClass::Throttled => DiagnosisOutcome::Throttled,
            _ => {
                debug!(action, error = error.chain(), "ECS could not be asked");
                DiagnosisOutcome::Error
            }
        }
    }
}

impl DiagnoseSettings {
    /// What goes wrong where this action is denied, and how to do without.
    fn cost_of(&self, action: &str) -> String {
        let said = "alerts say less. To not ask: diagnose.enabled = false";
        let matched = "no pattern that names service-tags matches, so the next route takes the alert";
        match action {
            LIST_TAGS if !self.tags.are_matched => "alerts do not show the tags of services (diagnose.tags)".to_owned(),
            LIST_TAGS => matched.to_owned(),
            "ecs:DescribeServices" if self.tags.are_matched => format!("{matched}, and {said}"),
            _ => said.to_owned(),
        }
    }
}

/// The actions that a diagnosis needs and the role lacks where the queue is, each with what that costs. It asks about what does not
/// exist: any answer but a denial shows that asking is allowed.
pub async fn denied_actions(
    aws: &aws_config::SdkConfig,
    settings: &DiagnoseSettings,
    queue_arn: &str,
) -> Vec<(&'static str, String)> {
    let Some(queue) = Arn::parse(queue_arn) else { return Vec::new() };
    let nobody = "ecs-slack-alerts-check".to_owned();
    let service = Service {
        partition: queue.partition.to_owned(),
        region: queue.region.to_owned(),
        account: queue.account.to_owned(),
        cluster: nobody.clone(),
        name: nobody,
    };
    let ecs = Ecs::new(aws);
    let task = service.cluster_arn().replace(":cluster/", ":task/") + "/00000000000000000000000000000000";
    let definition = service.cluster_arn().replace(":cluster/", ":task-definition/") + ":1";
    let group = format!(
        "arn:{}:elasticloadbalancing:{}:{}:targetgroup/{}/0000000000000000",
        service.partition, service.region, service.account, service.name
    );
    let deployment =
        service.cluster_arn().replace(":cluster/", ":service-deployment/") + &format!("/{}/0", service.name);
    let asked = async {
        tokio::join!(
            async {
                let described = ecs.describe_service(&service, settings.tags.are_wanted()).await;
                described.map_or_else(Some, |described| described.tags_refused)
            },
            async { ecs.list_stopped_tasks(&service, None).await.err() },
            async { ecs.describe_tasks(&service, vec![task]).await.err() },
            async { ecs.describe_task_definition(&service, &definition).await.err() },
            async { ecs.list_service_deployments(&service).await.err() },
            async { ecs.describe_service_deployments(&service, vec![deployment]).await.err() },
            async { ecs.describe_target_health(&service, &group).await.err() },
            async { ecs.describe_target_group(&service, &group).await.err() },
        )
    };
    let Ok((a, b, c, d, e, f, g, h)) = timeout(settings.timeout, asked).await else { return Vec::new() };
    let denied = [a, b, c, d, e, f, g, h].into_iter().flatten().filter(|error| error.class == ErrorClass::Denied);
    denied.map(|error| (error.action, settings.cost_of(error.action))).collect()
}

/// A bucket of `burst` tokens, refilled with one each `interval`, kept as the instant at which it is full again.
#[derive(Debug)]
struct Allowance {
    full_at: Instant,
    burst: u32,
    interval: Duration,
}

impl Allowance {
    fn new(now: Instant, burst: u32, interval: Duration) -> Self {
        Self { full_at: now, burst, interval }
    }

    /// Takes a token: since when, or from when on, it may be used; none if that is not within `patience`.
    fn turn(&mut self, now: Instant, patience: Duration) -> Option<Instant> {
        let full_at = self.full_at.max(now) + self.interval;
        let wait = (full_at - now).saturating_sub(self.interval * self.burst);
        if wait > patience {
            return None;
        }
        self.full_at = full_at;
        Some(now + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_then_one_each_interval() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start, BURST, INTERVAL);
        let mut take = |now| allowance.turn(now, Duration::ZERO).is_some();
        assert_eq!((0..100).filter(|_| take(start)).count(), BURST as usize);
        assert!(!take(start + INTERVAL / 2));
        assert!(take(start + INTERVAL));
        assert!(!take(start + INTERVAL));
        let later = start + INTERVAL * BURST * 3;
        assert_eq!((0..100).filter(|_| take(later)).count(), BURST as usize);
    }

    #[test]
    fn who_has_patience_gets_a_later_turn() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start, 2, INTERVAL);
        let turns: Vec<_> = (0..10).map_while(|_| allowance.turn(start, INTERVAL * 2)).collect();
        assert_eq!(turns, [start, start, start + INTERVAL, start + INTERVAL * 2]);
    }
}
