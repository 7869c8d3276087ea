//! The requests that diagnose one service. Each request is sent as soon as its parameters are known, in parallel with the others.
//!
//! Three requests need the answer of another one:
//!
//! - DescribeTasks needs the ARNs in the answer of ListTasks. The ARN in the event would not be enough: a diagnosis counts all stopped
//!   tasks, and the event already holds what DescribeTasks says about its task.
//! - DescribeTaskDefinition needs the ARNs in the answer of DescribeServices, which has the deployments that ECS still knows. If the
//!   stopped tasks are of a deployment that ECS has forgotten, it needs the ARNs in the answer of DescribeTasks.
//! - DescribeServiceDeployments needs the ARNs in the answer of ListServiceDeployments.
//!
//! So a diagnosis takes as long as ListTasks and then DescribeTasks, unless a task names a forgotten deployment, or the log of a
//! container is read, or a load balancer is slow.
//!
//! Only DescribeServices is required. When another request fails or times out, the diagnosis says less.

use std::{
    collections::HashSet,
    future::Future,
    pin::pin,
    sync::{Arc, OnceLock},
};

use futures_util::{
    FutureExt,
    future::{Either, join_all, select},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    join,
    time::{Instant, timeout_at},
    try_join,
};

use super::DiagnoseSettings;
use crate::{
    diagnosis::{
        Details, Diagnosis, Service, Tags,
        answers::{Facts, ServiceSnapshot},
    },
    ecs::{Ecs, EcsError},
    event::Arn,
};

/// How many pages of stopped tasks are read at most, a hundred tasks each. If a service stops more tasks within the hour, these are
/// enough to show why.
const MAX_PAGES: usize = 5;

/// The requests about one service, and the answers so far.
pub(super) struct Inquiry<'a> {
    ecs: &'a Ecs,
    service: &'a Service,
    deadline: Instant,
    log_lines: usize,
    /// Whether the service's tags are requested.
    with_tags: bool,
    tags: OnceLock<Tags>,
    details: Mutex<Details>,
    /// The ARNs of the task definitions and target groups that were requested: each is requested once.
    requested: Mutex<HashSet<String>>,
    unanswered: Mutex<Unanswered>,
}

/// The requests without an answer.
#[derive(Default)]
pub(super) struct Unanswered {
    /// Why requests failed.
    pub(super) failed: Vec<EcsError>,
    /// Whether any timed out.
    pub(super) timed_out: bool,
}

impl<'a> Inquiry<'a> {
    pub(super) fn new(ecs: &'a Ecs, service: &'a Service, deadline: Instant, settings: &DiagnoseSettings) -> Self {
        Self {
            ecs,
            service,
            deadline,
            log_lines: settings.log_lines,
            with_tags: settings.tags.are_used(),
            tags: OnceLock::new(),
            details: Mutex::default(),
            requested: Mutex::default(),
            unanswered: Mutex::default(),
        }
    }

    /// Sends the requests. Returns the diagnosis and the tags of the service, each `None` if ECS did not answer, and the requests that
    /// were not answered. `target_groups` are the ARNs that the event names. They are requested at once, because a target that failed
    /// is soon deregistered.
    pub(super) async fn run(mut self, target_groups: Vec<String>) -> (Option<Diagnosis>, Option<Tags>, Unanswered) {
        let diagnosis = self.diagnosis(&target_groups).await;
        let unanswered = self.unanswered.into_inner();
        (diagnosis, self.tags.take(), unanswered)
    }

    async fn diagnosis(&self, target_groups: &[String]) -> Option<Diagnosis> {
        let facts = OnceLock::new();
        let described = self.describe_service().shared();
        let first_definitions = async {
            if let Some(known) = described.clone().await {
                self.request_task_definitions(&known).await;
            }
        };
        let first_definitions = first_definitions.shared();
        let first_targets = async {
            if let Some(known) = described.clone().await {
                self.request_failing_targets(&known).await;
            }
        };
        let main = pin!(async {
            let described = described.clone().map(|known| known.ok_or(()));
            let stopped = async { Ok(self.stopped_tasks().await) };
            // If ECS does not know the service, the other answers are of no use.
            let (described, (stopped, tasks_known)) = try_join!(described, stopped).ok()?;
            let mut known = Facts::clone(&described);
            known.tasks_known = tasks_known;
            stopped.into_iter().for_each(|answer| known.add(answer));
            let known = facts.get_or_init(|| known);
            let snapshot = ServiceSnapshot::of(self.service, known)?;
            let definitions_and_log = async {
                join!(self.request_task_definitions(known), first_definitions.clone());
                self.request_log(&snapshot).await;
            };
            join!(definitions_and_log, self.request_failing_targets(known));
            Some(snapshot)
        });
        let beside = pin!(async {
            join!(
                self.request_targets(target_groups.iter().map(String::as_str)),
                self.request_service_deployments(),
                first_targets,
                first_definitions.clone()
            )
        });
        let snapshot = match select(main, beside).await {
            Either::Left((None, _)) => return None,
            Either::Left((snapshot, beside)) => {
                beside.await;
                snapshot
            }
            Either::Right((_, main)) => main.await,
        };
        snapshot.map(|snapshot| snapshot.diagnosis(&self.details.lock()))
    }

    /// What ECS says about the service itself. Keeps the service's tags.
    async fn describe_service(&self) -> Option<Arc<Facts>> {
        let described = self.within(self.ecs.describe_service(self.service, self.with_tags)).await?;
        let service = described.answer.pointer("/services/0")?;
        match described.tags_refused {
            Some(error) => self.unanswered.lock().failed.push(error),
            None if self.with_tags => self.tags.set(Tags::of(service)).unwrap_or_default(),
            None => {}
        }
        let mut facts = Facts::default();
        facts.add(described.answer);
        Some(Arc::new(facts))
    }

    /// The answers of DescribeTasks about the stopped tasks. Also returns whether they are about all of them: no request failed, and there
    /// are at most [`MAX_PAGES`].
    async fn stopped_tasks(&self) -> (Vec<Value>, bool) {
        let mut answers = Vec::new();
        let list = async |token| self.within(self.ecs.list_stopped_tasks(self.service, token)).await;
        let mut page = list(None).await;
        for number in 1..=MAX_PAGES {
            let Some((tasks, token)) = page else { break };
            let is_last = token.is_none();
            let following = async { if is_last || number == MAX_PAGES { None } else { list(token).await } };
            let described = async {
                match tasks.is_empty() {
                    true => Some(None),
                    false => self.within(self.ecs.describe_tasks(self.service, tasks)).await.map(Some),
                }
            };
            let (described, following) = join!(described, following);
            let Some(described) = described else { break };
            answers.extend(described);
            if is_last {
                return (answers, true);
            }
            page = following;
        }
        (answers, false)
    }

    /// Requests the task definitions of the deployment that fails and of the one before it, as far as these facts name them.
    async fn request_task_definitions(&self, facts: &Facts) {
        let snapshot = ServiceSnapshot::of(self.service, facts);
        let arns = snapshot.into_iter().flat_map(|snapshot| snapshot.task_definitions()).flatten();
        let arns = self.not_requested(arns);
        let requests = arns.iter().map(|arn| self.within(self.ecs.describe_task_definition(self.service, arn)));
        let answers = join_all(requests).await;
        answers.into_iter().flatten().for_each(|answer| self.details.lock().add(answer));
    }

    /// Requests the last lines of the log, if the configuration asks for them. Needs the task definition of the container.
    async fn request_log(&self, snapshot: &ServiceSnapshot<'_>) {
        let log = snapshot.log_stream(&self.details.lock()).filter(|_| self.log_lines > 0);
        if let Some(log) = log {
            let messages = self.within(self.ecs.last_messages(&log, self.log_lines as i32)).await;
            self.details.lock().add_log(messages.into_iter().flatten());
        }
    }

    async fn request_service_deployments(&self) {
        let latest = self.within(self.ecs.list_service_deployments(self.service)).await;
        if let Some(latest) = latest.filter(|latest| !latest.is_empty()) {
            let answer = self.within(self.ecs.describe_service_deployments(self.service, latest)).await;
            answer.into_iter().for_each(|answer| self.details.lock().add(answer));
        }
    }

    /// Requests the target groups whose health checks failed, as far as these facts name them.
    async fn request_failing_targets(&self, facts: &Facts) {
        if let Some(snapshot) = ServiceSnapshot::of(self.service, facts) {
            self.request_targets(snapshot.failing_target_groups().into_iter()).await;
        }
    }

    /// Requests these target groups, except those of other Regions and accounts, which an event may name.
    async fn request_targets(&self, groups: impl Iterator<Item = &str>) {
        let Service { partition, region, account, .. } = self.service;
        let is_own = |arn: Arn| (arn.partition, arn.region, arn.account) == (&**partition, &**region, &**account);
        let own = self.not_requested(groups.filter(|group| Arn::parse(group).is_some_and(is_own)));
        let requests = own.iter().map(async |group| {
            let (described, health) = join!(
                self.within(self.ecs.describe_target_group(self.service, group)),
                self.within(self.ecs.describe_target_health(self.service, group))
            );
            let mut details = self.details.lock();
            described.into_iter().for_each(|answer| details.add(answer));
            health.into_iter().for_each(|answer| details.add_target_health(group, answer));
        });
        join_all(requests).await;
    }

    /// The ARNs that were not requested yet. Marks them as requested.
    fn not_requested<'b>(&self, arns: impl Iterator<Item = &'b str>) -> Vec<String> {
        let mut requested = self.requested.lock();
        arns.filter(|arn| requested.insert((*arn).to_owned())).map(str::to_owned).collect()
    }

    /// The answer, if it comes before the deadline and is no error.
    async fn within<T>(&self, request: impl Future<Output = Result<T, EcsError>>) -> Option<T> {
        match timeout_at(self.deadline, request).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => self.unanswered.lock().failed.push(error),
            Err(_) => self.unanswered.lock().timed_out = true,
        }
        None
    }
}
