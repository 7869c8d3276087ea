//! Asks ECS about the service of an alert before the alert is posted.
//!
//! An alert waits for the answers until a timeout. If a request fails, the alert is posted without its answer. All programs of an
//! account share the API's rate limit, so there are three limits: few services are diagnosed at once, an answer is cached for a minute,
//! however many alerts a service has, and in a storm only as many services as [`BURST`] allows are diagnosed.

mod inquiry;
mod permissions;
mod token_bucket;

use std::{collections::HashSet, sync::Arc, time::Duration};

use moka::future::Cache;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{debug, warn};

pub use self::permissions::denied_actions;
use self::{inquiry::Inquiry, token_bucket::TokenBucket};
use crate::{
    alert::{Alert, CrashLoopRule},
    aws::ErrorClass,
    diagnosis::{Diagnosis, Service, Tags, target_groups_in},
    ecs::{Described, Ecs, EcsError, LIST_TAGS},
    metrics::{self, DiagnosisOutcome},
    shutdown::StopSignal,
};

/// How many services are diagnosed at once.
const CONCURRENT: usize = 8;
/// How many services are diagnosed in a row, when none was diagnosed for a while. ECS limits requests that read services by a bucket of
/// a hundred tokens, and each diagnosis takes three of them. From the other buckets, a diagnosis takes two tokens for each hundred
/// stopped tasks, and two for task definitions, or up to four if the stopped tasks are of a deployment that ECS has forgotten.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>
const BURST: u32 = 20;
/// After a burst, one service is diagnosed each interval. That makes six requests a second that read services; the bucket gets twenty
/// tokens a second.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many services' tags are requested in a row, without a diagnosis. Each request takes one token of that bucket.
const TAGS_BURST: u32 = 40;
/// After that, five a second: with the diagnoses, eleven requests a second.
const TAGS_INTERVAL: Duration = Duration::from_millis(200);
/// How long we rely on ECS to remember a stopped task. ECS promises an hour.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>
const TASKS_REMEMBERED: Duration = Duration::from_secs(55 * 60);
/// How long an answer or a failure is cached.
const CACHED: Duration = Duration::from_secs(60);

/// What is requested from ECS, and how long an alert waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiagnoseSettings {
    /// The longest that an alert waits for the answers.
    pub timeout: Duration,
    /// How many lines of the log of a crashed container are read. The default is 0, because a log may hold anything.
    pub log_lines: usize,
    /// How many exits of tasks are a crash loop; fewer are routine. `None`: each exit is an alert.
    pub crash_loop: Option<CrashLoopRule>,
    /// What the tags of services are used for.
    pub tags: Tagging,
}

/// What the tags of services are used for. If they are not used, they are not requested.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tagging {
    /// The keys of the tags that alerts show.
    pub shown: Vec<String>,
    /// Whether a pattern names tags.
    pub are_in_patterns: bool,
}

impl Tagging {
    fn are_used(&self) -> bool {
        self.are_in_patterns || !self.shown.is_empty()
    }
}

/// Asks ECS about services, and caches the answers.
#[derive(Debug)]
pub struct Diagnoser {
    ecs: Ecs,
    settings: DiagnoseSettings,
    stop: StopSignal,
    recent: Cache<Service, Answered>,
    tags: Cache<Service, Tagged>,
    bucket: Mutex<TokenBucket>,
    tags_bucket: Mutex<TokenBucket>,
    slots: Semaphore,
    /// The denied actions that were logged.
    denied: Mutex<HashSet<&'static str>>,
}

/// What ECS answered about a service.
#[derive(Debug, Clone)]
struct Answered {
    outcome: DiagnosisOutcome,
    diagnosis: Option<Arc<Diagnosis>>,
    /// `None` if they were not requested.
    tags: Option<Tagged>,
}

/// The tags of a service, or why they are unknown.
type Tagged = Result<Arc<Tags>, DiagnosisOutcome>;

impl Answered {
    fn without_diagnosis(outcome: DiagnosisOutcome) -> Self {
        Self { outcome, diagnosis: None, tags: None }
    }

    /// Whether the answer is older than the stop of this task.
    fn is_stale_for(&self, task: &str) -> bool {
        self.diagnosis.as_ref().is_some_and(|known| known.tasks_known && !known.stopped_tasks.contains(task))
    }
}

/// No request was made, because of the limits. This is not cached, so the next alert tries again.
struct Busy;

impl Diagnoser {
    /// A diagnoser with empty caches. Makes no request.
    pub fn new(aws: &aws_config::SdkConfig, settings: DiagnoseSettings, stop: StopSignal) -> Self {
        Self {
            ecs: Ecs::new(aws),
            settings,
            stop,
            recent: Cache::builder().max_capacity(1_000).time_to_live(CACHED).build(),
            tags: Cache::builder().max_capacity(1_000).time_to_live(CACHED).build(),
            bucket: Mutex::new(TokenBucket::full(Instant::now(), BURST, INTERVAL)),
            tags_bucket: Mutex::new(TokenBucket::full(Instant::now(), TAGS_BURST, TAGS_INTERVAL)),
            slots: Semaphore::new(CONCURRENT),
            denied: Mutex::new(HashSet::new()),
        }
    }

    /// Adds what ECS says about the alert's service, and its tags. If ECS does not answer, the alert stays as it is.
    pub async fn diagnose(&self, alert: &Arc<Alert>) -> Arc<Alert> {
        let Some(service) = alert.service.as_ref().filter(|_| alert.needs_diagnosis) else {
            return self.tag(alert).await;
        };
        let mut stop = self.stop.clone();
        let skipped = Answered::without_diagnosis(DiagnosisOutcome::Skipped);
        let answered = tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => skipped,
            answered = self.answer(alert, service) => answered.unwrap_or(skipped),
        };
        metrics::diagnosis(answered.outcome);
        let diagnosed = match answered.diagnosis {
            Some(diagnosis) => {
                Arc::new(Alert::clone(alert).with_diagnosis(Diagnosis::clone(&diagnosis), self.rule(alert)))
            }
            None => Arc::clone(alert),
        };
        match answered.tags {
            Some(tagged) => self.with_tags(&diagnosed, tagged),
            // The service was not asked about, or its tags were not requested.
            None => self.tag(&diagnosed).await,
        }
    }

    /// Adds the tags of the alert's service. If they are not cached, that takes one request.
    pub async fn tag(&self, alert: &Arc<Alert>) -> Arc<Alert> {
        let Some(service) = alert.service.as_ref().filter(|_| self.settings.tags.are_used()) else {
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

    /// The crash-loop rule for this alert. `None` if the alert is so old that ECS may have forgotten the tasks that stopped before it.
    fn rule(&self, alert: &Alert) -> Option<CrashLoopRule> {
        let is_recent = |rule: &CrashLoopRule| {
            alert
                .time
                .is_some_and(|time| OffsetDateTime::now_utc() - time < TASKS_REMEMBERED.saturating_sub(rule.within))
        };
        self.settings.crash_loop.filter(is_recent)
    }

    /// Whether the alert's service has recovered ([`Diagnosis::has_recovered`], within the crash-loop window); `None` if ECS does
    /// not answer. Also returns the alert with what ECS says now.
    pub async fn confirm_recovery(&self, alert: Arc<Alert>) -> (Arc<Alert>, Option<bool>) {
        let Some(service) = &alert.service else { return (alert, None) };
        // A cached answer may be older than the recovery.
        self.recent.invalidate(service).await;
        let alert = self.diagnose(&alert).await;
        let rule = self.settings.crash_loop.unwrap_or(CrashLoopRule::DEFAULT);
        let diagnosis = alert.diagnosis.as_ref().filter(|diagnosis| diagnosis.tasks_known);
        let has_recovered = diagnosis.map(|diagnosis| diagnosis.has_recovered(rule.within));
        (alert, has_recovered)
    }

    /// The cached answer, or a new one if the cached one is older than the stop of the alert's task.
    async fn answer(&self, alert: &Alert, service: &Service) -> Result<Answered, Arc<Busy>> {
        let entry = self.recent.entry_by_ref(service).or_try_insert_with(self.ask(alert, service)).await?;
        let is_stale = |task: &String| entry.value().is_stale_for(task);
        if entry.is_fresh() || !alert.exited_task_id.as_ref().is_some_and(is_stale) {
            return Ok(entry.into_value());
        }
        self.recent.invalidate(service).await;
        self.recent.try_get_with_by_ref(service, self.ask(alert, service)).await
    }

    async fn ask(&self, alert: &Alert, service: &Service) -> Result<Answered, Busy> {
        let now = Instant::now();
        if self.bucket.lock().take(now, Duration::ZERO).is_none() {
            return Err(Busy);
        }
        let deadline = now + self.settings.timeout;
        let Ok(_slot) = timeout_at(deadline, self.slots.acquire()).await else { return Err(Busy) };
        let inquiry = Inquiry::new(&self.ecs, service, deadline, &self.settings);
        let named = alert.reason.as_deref().into_iter().flat_map(target_groups_in).take(1).map(str::to_owned);
        // Boxed, because this future takes twelve KB. Without the box, each message in flight would take that much, even if its service
        // is not diagnosed.
        let (diagnosis, tags, unanswered) = Box::pin(inquiry.run(named.collect())).await;
        let is_complete = unanswered.failed.is_empty() && !unanswered.timed_out;
        let (mut refusal, mut tags_refusal) = (None, None);
        for error in unanswered.failed {
            let action = error.action;
            let outcome = self.log_failure(error);
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
            (None, None) if unanswered.timed_out => DiagnosisOutcome::Timeout,
            (None, None) => DiagnosisOutcome::Unknown,
        };
        let tagged = match tags.map(Arc::new) {
            Some(tags) => Ok(tags),
            None => Err(tags_refusal.unwrap_or(outcome)),
        };
        let tags = if self.settings.tags.are_used() { Some(self.tags_or_cached(service, tagged).await) } else { None };
        Ok(Answered { outcome, diagnosis: diagnosis.map(Arc::new), tags })
    }

    /// Caches and returns these tags. If they are unknown, returns the cached ones.
    async fn tags_or_cached(&self, service: &Service, tagged: Tagged) -> Tagged {
        if tagged.is_ok() {
            self.tags.insert(service.clone(), tagged.clone()).await;
            return tagged;
        }
        self.tags.get(service).await.filter(Result::is_ok).unwrap_or(tagged)
    }

    async fn ask_for_tags(&self, service: &Service) -> Result<Tagged, Busy> {
        let now = Instant::now();
        let deadline = now + self.settings.timeout;
        // Tags may decide which channel gets the alert, so it waits for a token.
        let max_wait = self.settings.timeout / 2;
        let token = self.tags_bucket.lock().take(now, max_wait);
        sleep_until(token.ok_or(Busy)?).await;
        let Ok(_slot) = timeout_at(deadline, self.slots.acquire()).await else { return Err(Busy) };
        let Ok(described) = timeout_at(deadline, self.ecs.describe_service(service, true)).await else {
            return Ok(Err(DiagnosisOutcome::Timeout));
        };
        Ok(match described {
            Ok(Described { tags_refused: Some(error), .. }) | Err(error) => Err(self.log_failure(error)),
            Ok(Described { answer, .. }) => answer
                .pointer("/services/0")
                .map(|service| Arc::new(Tags::of(service)))
                .ok_or(DiagnosisOutcome::Unknown),
        })
    }

    /// Logs a failed request. A missing permission is logged once only, because it lasts until the operator grants it.
    fn log_failure(&self, error: EcsError) -> DiagnosisOutcome {
        let (action, class) = (error.action, error.class);
        match class {
            ErrorClass::Denied => {
                if self.denied.lock().insert(action) {
                    let error = error.chain();
                    let cost = self.settings.cost_of(action);
                    warn!(action, error, "the role lacks {action}; without it {cost}");
                }
                DiagnosisOutcome::Denied
            }
            ErrorClass::Throttled => DiagnosisOutcome::Throttled,
            _ => {
                debug!(action, error = error.chain(), "a request to ECS failed");
                DiagnosisOutcome::Error
            }
        }
    }
}
