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
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, warn};

use self::inquiry::Inquiry;
use crate::{
    alert::{Alert, CrashLoopRule},
    aws::ErrorClass,
    diagnosis::{Diagnosis, Service, target_groups_in},
    ecs::{Ecs, EcsError},
    event::Arn,
    metrics::{self, DiagnosisOutcome},
    shutdown::Stop,
};

/// Services asked about at once.
const CONCURRENT: usize = 8;
/// Services asked about in a row, when nothing was asked for a while. Of a bucket of a hundred that reads of services share, each takes
/// three; the other buckets give less: tasks two, for each hundred that stopped, and task definitions two.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>
const BURST: u32 = 20;
/// After a burst, one service each so often: ten requests a second, half of what the bucket is refilled with.
const INTERVAL: Duration = Duration::from_millis(500);
/// For how long ECS surely remembers a stopped task; it promises an hour.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>
const MEMORY: Duration = Duration::from_secs(55 * 60);
/// How long an answer holds, a failure too.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How ECS is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The longest that an alert waits for it.
    pub timeout: Duration,
    /// How much of the log of a container that crashed is read, in lines; none is the default, since nobody knows what it
    /// holds.
    pub log_lines: usize,
    /// When exits of tasks are a crash loop, and till then routine; none: each is an alert.
    pub crash_loop: Option<CrashLoopRule>,
}

/// Whom to ask about a service.
#[derive(Debug)]
pub struct Diagnoser {
    ecs: Ecs,
    settings: Settings,
    stop: Stop,
    recent: Cache<Service, Asked>,
    allowance: Mutex<Allowance>,
    slots: Semaphore,
    /// Actions that were denied, and reported.
    denied: Mutex<HashSet<&'static str>>,
}

/// What came of asking.
#[derive(Debug, Clone)]
struct Asked {
    outcome: DiagnosisOutcome,
    diagnosis: Option<Arc<Diagnosis>>,
}

impl Asked {
    fn in_vain(outcome: DiagnosisOutcome) -> Self {
        Self { outcome, diagnosis: None }
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
    pub fn new(aws: &aws_config::SdkConfig, settings: Settings, stop: Stop) -> Self {
        Self {
            ecs: Ecs::new(aws),
            settings,
            stop,
            recent: Cache::builder().max_capacity(1_000).time_to_live(REMEMBERED).build(),
            allowance: Mutex::new(Allowance::new(Instant::now())),
            slots: Semaphore::new(CONCURRENT),
            denied: Mutex::new(HashSet::new()),
        }
    }

    /// The alert with what ECS says about its service, or as it was.
    pub async fn diagnose(&self, alert: &Arc<Alert>) -> Arc<Alert> {
        let Some(service) = &alert.service else { return Arc::clone(alert) };
        let mut stop = self.stop.clone();
        let skipped = Asked::in_vain(DiagnosisOutcome::Skipped);
        let asked = tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => skipped,
            asked = self.asked(alert, service) => asked.unwrap_or(skipped),
        };
        metrics::diagnosis(asked.outcome);
        match asked.diagnosis {
            Some(diagnosis) => {
                Arc::new(Alert::clone(alert).with_diagnosis(Diagnosis::clone(&diagnosis), self.rule(alert)))
            }
            None => Arc::clone(alert),
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
        if !self.allowance.lock().unwrap_or_else(PoisonError::into_inner).take(now) {
            return Err(Busy);
        }
        let deadline = now + self.settings.timeout;
        let Ok(_slot) = timeout_at(deadline, self.slots.acquire()).await else { return Err(Busy) };
        let inquiry = Inquiry::new(&self.ecs, service, deadline, self.settings.log_lines);
        let named = alert.reason.as_deref().into_iter().flat_map(target_groups_in).take(1).map(str::to_owned);
        let (diagnosis, shortfall) = inquiry.run(named.collect()).await;
        let is_complete = shortfall.failed.is_empty() && !shortfall.late;
        let mut refusal = None;
        for error in shortfall.failed {
            let is_indispensable = error.action == "ecs:DescribeServices";
            let outcome = self.tell(error);
            refusal = refusal.or(Some(outcome).filter(|_| is_indispensable));
        }
        let outcome = match (&diagnosis, refusal) {
            (Some(_), _) if is_complete => DiagnosisOutcome::Ok,
            (Some(_), _) => DiagnosisOutcome::Partial,
            (None, Some(outcome)) => outcome,
            (None, None) if shortfall.late => DiagnosisOutcome::Timeout,
            (None, None) => DiagnosisOutcome::Unknown,
        };
        Ok(Asked { outcome, diagnosis: diagnosis.map(Arc::new) })
    }

    /// Logs a failure: a missing permission once, since only the operator can mend it.
    fn tell(&self, error: EcsError) -> DiagnosisOutcome {
        let (action, class) = (error.action, error.class);
        match class {
            ErrorClass::Denied => {
                if self.denied.lock().unwrap_or_else(PoisonError::into_inner).insert(action) {
                    let error = error.chain();
                    warn!(
                        action,
                        error,
                        "the role lacks {action}; without it alerts say less. To not ask: diagnose.enabled = false"
                    );
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

/// The actions that a diagnosis needs and the role lacks where the queue is. It asks about what does not exist: any answer but a
/// denial shows that asking is allowed.
pub async fn denied_actions(aws: &aws_config::SdkConfig, settings: Settings, queue_arn: &str) -> Vec<&'static str> {
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
            async { ecs.describe_service(&service).await.err() },
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
    denied.map(|error| error.action).collect()
}

/// A bucket of [`BURST`] tokens, refilled with one each [`INTERVAL`], kept as the instant at which it is full again.
#[derive(Debug)]
struct Allowance {
    full_at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + INTERVAL;
        let is_there = full_at - now <= INTERVAL * BURST;
        if is_there {
            self.full_at = full_at;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_then_one_each_interval() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!((0..100).filter(|_| allowance.take(start)).count(), BURST as usize);
        assert!(!allowance.take(start + INTERVAL / 2));
        assert!(allowance.take(start + INTERVAL));
        assert!(!allowance.take(start + INTERVAL));
        let later = start + INTERVAL * BURST * 3;
        assert_eq!((0..100).filter(|_| allowance.take(later)).count(), BURST as usize);
    }
}
