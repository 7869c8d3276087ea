//! One service asked about: which requests are made, what waits for what, and what was answered in time.
//!
//! Only DescribeServices is indispensable. Whatever else fails or comes too late, the diagnosis says less.

use std::{
    future::Future,
    pin::pin,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use futures_util::future::{Either, join_all, select};
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
        answers::{Facts, Picture},
    },
    ecs::{Ecs, EcsError},
    event::Arn,
};

/// Pages of stopped tasks that are read, of a hundred each. A service that stops more within the hour fails often enough to be told from these.
const MOST_PAGES: usize = 5;

/// The questions about one service.
pub(super) struct Inquiry<'a> {
    ecs: &'a Ecs,
    service: &'a Service,
    deadline: Instant,
    log_lines: usize,
    /// Whether the service's tags are asked for; and these.
    with_tags: bool,
    tags: OnceLock<Tags>,
    shortfall: Mutex<Shortfall>,
}

/// What was asked in vain.
#[derive(Default)]
pub(super) struct Shortfall {
    /// The requests that failed.
    pub(super) failed: Vec<EcsError>,
    /// Whether any was not answered in time.
    pub(super) late: bool,
}

/// What a load balancer answered about a target group.
struct TargetAnswers {
    group: String,
    described: Option<Value>,
    health: Option<Value>,
}

impl<'a> Inquiry<'a> {
    pub(super) fn new(ecs: &'a Ecs, service: &'a Service, deadline: Instant, settings: &DiagnoseSettings) -> Self {
        let (log_lines, with_tags) = (settings.log_lines, settings.tags.are_wanted());
        Self { ecs, service, deadline, log_lines, with_tags, tags: OnceLock::new(), shortfall: Mutex::default() }
    }

    /// What is known of the service and its tags, none if it is nothing; and what was asked in vain. The load balancer is asked at once about
    /// `target_groups`: a target that failed is soon deregistered.
    pub(super) async fn run(mut self, target_groups: Vec<String>) -> (Option<Diagnosis>, Option<Tags>, Shortfall) {
        let diagnosis = self.diagnosis(target_groups).await;
        let shortfall = self.shortfall.into_inner().unwrap_or_else(PoisonError::into_inner);
        (diagnosis, self.tags.take(), shortfall)
    }

    async fn diagnosis(&self, target_groups: Vec<String>) -> Option<Diagnosis> {
        let facts = OnceLock::new();
        let main = pin!(self.service(&facts, &target_groups));
        let beside = pin!(async { join!(self.deployments(), self.targets(target_groups.clone())) });
        let answered = match select(main, beside).await {
            Either::Left((None, _)) => None,
            Either::Left((Some(main), beside)) => Some((main, beside.await)),
            Either::Right((beside, main)) => main.await.map(|main| (main, beside)),
        };
        answered.map(|((picture, mut details), (deployments, targets))| {
            deployments.into_iter().for_each(|answer| details.add(answer));
            add_targets(&mut details, targets);
            picture.diagnosis(&details)
        })
    }

    /// The service and its stopped tasks, then what these were made from, what they logged, and the target groups that only they name.
    async fn service<'b>(&'b self, facts: &'b OnceLock<Facts>, asked: &[String]) -> Option<(Picture<'b>, Details)> {
        // Nothing else helps if ECS does not know the service.
        let described = async {
            let described = self.within(self.ecs.describe_service(self.service, self.with_tags)).await.ok_or(())?;
            let service = described.answer.pointer("/services/0").ok_or(())?;
            match described.tags_refused {
                Some(error) => self.shortfall().failed.push(error),
                None if self.with_tags => self.tags.set(Tags::of(service)).unwrap_or_default(),
                None => {}
            }
            Ok::<_, ()>(described.answer)
        };
        let stopped = async { Ok(self.stopped_tasks().await) };
        let (described, (stopped, tasks_known)) = try_join!(described, stopped).ok()?;
        let mut known = Facts::default();
        known.tasks_known = tasks_known;
        known.add(described);
        stopped.into_iter().for_each(|answer| known.add(answer));
        let picture = Picture::of(self.service, facts.get_or_init(|| known))?;
        let groups = picture.failing_target_groups().into_iter().map(str::to_owned);
        let groups = groups.filter(|group| !asked.contains(group)).collect();
        let (mut details, targets) = join!(self.definitions_and_log(&picture), self.targets(groups));
        add_targets(&mut details, targets);
        Some((picture, details))
    }

    /// The stopped tasks, and whether these are all.
    async fn stopped_tasks(&self) -> (Vec<Value>, bool) {
        let mut answers = Vec::new();
        let list = async |token| self.within(self.ecs.list_stopped_tasks(self.service, token)).await;
        let mut page = list(None).await;
        for _ in 0..MOST_PAGES {
            let Some((tasks, token)) = page else { return (answers, false) };
            let is_last = token.is_none();
            let following = async { if is_last { None } else { list(token).await } };
            let described = async {
                match tasks.is_empty() {
                    true => Some(None),
                    false => self.within(self.ecs.describe_tasks(self.service, tasks)).await.map(Some),
                }
            };
            let (described, following) = join!(described, following);
            let Some(described) = described else { return (answers, false) };
            answers.extend(described);
            if is_last {
                break;
            }
            page = following;
        }
        (answers, true)
    }

    async fn definitions_and_log(&self, picture: &Picture<'_>) -> Details {
        let mut details = Details::default();
        let lacking = picture.lacking_task_definitions(&details);
        let definitions = lacking.iter().map(|arn| self.within(self.ecs.describe_task_definition(self.service, arn)));
        join_all(definitions).await.into_iter().flatten().for_each(|answer| details.add(answer));
        if let Some(log) = picture.log_stream(&details).filter(|_| self.log_lines > 0) {
            let messages = self.within(self.ecs.last_messages(&log, self.log_lines as i32)).await;
            details.add_log(messages.into_iter().flatten());
        }
        details
    }

    async fn deployments(&self) -> Option<Value> {
        let latest = self.within(self.ecs.list_service_deployments(self.service)).await?;
        if latest.is_empty() {
            return None;
        }
        self.within(self.ecs.describe_service_deployments(self.service, latest)).await
    }

    /// Those of the service's own Region and account: nobody else's are asked about, whatever an event names.
    async fn targets(&self, groups: Vec<String>) -> Vec<TargetAnswers> {
        let Service { partition, region, account, .. } = self.service;
        let is_near = |arn: Arn| (arn.partition, arn.region, arn.account) == (&**partition, &**region, &**account);
        let near = groups.into_iter().filter(|group| Arn::parse(group).is_some_and(is_near));
        let asked = near.map(async |group| {
            let (described, health) = join!(
                self.within(self.ecs.describe_target_group(self.service, &group)),
                self.within(self.ecs.describe_target_health(self.service, &group))
            );
            TargetAnswers { group, described, health }
        });
        join_all(asked).await
    }

    /// The answer, if it comes in time and is one.
    async fn within<T>(&self, request: impl Future<Output = Result<T, EcsError>>) -> Option<T> {
        let answered = timeout_at(self.deadline, request).await;
        match answered {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => self.shortfall().failed.push(error),
            Err(_) => self.shortfall().late = true,
        }
        None
    }

    fn shortfall(&self) -> MutexGuard<'_, Shortfall> {
        self.shortfall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add_targets(details: &mut Details, answers: Vec<TargetAnswers>) {
    for TargetAnswers { group, described, health } in answers {
        described.into_iter().for_each(|answer| details.add(answer));
        health.into_iter().for_each(|answer| details.add_target_health(&group, answer));
    }
}
