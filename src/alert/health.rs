//! Alerts about notices of AWS Health: what AWS will do to tasks and services, or problems of AWS's own services.
//!
//! ECS names services as `cluster|service`, and stand-alone tasks by their ARNs.
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-maintenance.html>

use super::{Page, Parts, Severity, several, utc, words};
use crate::console::Console;
use crate::event::health::{Health, parse_health_time};
use crate::event::{Arn, Event, distinct};
use crate::text::line;

/// The maximum number of names in a headline.
const MAX_NAMED: usize = 3;

pub(super) fn describe(event: &Event, health: &Health) -> Parts {
    let mut parts = Parts::of(event);
    let code = health.code.unwrap_or("AWS_HEALTH_EVENT");
    parts.kind = code.to_owned();
    let is_resolved =
        !health.entities.is_empty() && health.entities.iter().all(|entity| entity.status == Some("RESOLVED"));
    let is_over = health.status == Some("closed") || is_resolved;
    parts.severity = if is_over { Severity::Info } else { Severity::Warning };
    parts.reason = health.description.map(description);
    parts.region = health.region.map(str::to_owned).or(parts.region.take());

    let affected = Affected::of(event, health);
    parts.cluster = affected.cluster().map(str::to_owned);
    parts.subject = affected.names(health.service);
    let are_several = affected.services.len() > 1 || (affected.services.is_empty() && affected.tasks.len() > 1);
    let [start, end] =
        [health.start, health.end].map(|at| at.map(|at| parse_health_time(at).map_or_else(|| line(at, 60), utc)));
    let from = start.as_ref().map(|start| format!(" from {start}")).unwrap_or_default();
    let is_retirement = health.service == Some("ECS") && code.ends_with("RETIREMENT");
    parts.what = match (is_retirement && !is_over, affected.services.is_empty(), are_several) {
        (true, false, true) => format!("have tasks that AWS retires{from}"),
        (true, false, false) => format!("has tasks that AWS retires{from}"),
        (true, true, true) => format!("are retired by AWS{from}"),
        (true, true, false) => format!("is retired by AWS{from}"),
        (false, _, several) => {
            let has = if several { "have" } else { "has" };
            let over = if is_over { "the end of " } else { "" };
            format!("{has} {over}a notice of AWS Health: {}{from}", notice(code, health))
        }
    };
    if is_retirement && !is_over {
        advise(&mut parts, &affected);
    }

    parts.fact("Services", affected.list(&affected.services).as_deref());
    parts.fact("Tasks", affected.list_of_tasks().as_deref());
    parts.fact("Affected", Some(several(&affected.others, 5)).filter(|others| !others.is_empty()).as_deref());
    parts.fact("Until", end.as_deref());
    parts.fact("Event", health.code);
    let console = parts.region.as_deref().and_then(|region| Console::new(None, region));
    let page =
        console.zip(parts.cluster.as_deref()).and_then(|(console, cluster)| match affected.services.as_slice() {
            [(_, service)] => console.service(cluster, service),
            _ => console.cluster(cluster),
        });
    parts.link(Page::Subject, page);
    parts
}

/// The description's line breaks are a backslash and an n, and it may repeat a line.
fn description(text: &str) -> String {
    let lines = text.split("\\n").flat_map(str::lines).map(str::trim).take(100);
    distinct(lines.filter(|line| !line.is_empty())).join("\n")
}

fn advise(parts: &mut Parts, affected: &Affected) {
    if affected.services.is_empty() {
        parts.advice = Some(
            "ECS does not start stand-alone tasks again: if one is still needed, start another in its place before then."
                .to_owned(),
        );
        return;
    }
    parts.advice = Some(
        "ECS replaces a service's tasks by itself, within its deployment settings. To choose the time, deploy before then."
            .to_owned(),
    );
    let region = parts.region.clone();
    if affected.services.len() <= MAX_NAMED {
        for (cluster, service) in &affected.services {
            let names =
                ["aws", "ecs", "update-service", "--cluster", cluster, "--service", service, "--force-new-deployment"];
            parts.command(names.into_iter().chain(region.iter().flat_map(|region| ["--region", region])));
        }
    }
}

/// `AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED` → "instance retirement scheduled"
fn notice(code: &str, health: &Health) -> String {
    let prefix = format!("AWS_{}_", health.service.unwrap_or_default());
    words(&line(code.strip_prefix(&*prefix).or(code.strip_prefix("AWS_")).unwrap_or(code), 100))
}

/// The resources that a notice affects.
#[derive(Debug, Default)]
struct Affected<'a> {
    /// (cluster, service)
    services: Vec<(&'a str, &'a str)>,
    /// (cluster, id)
    tasks: Vec<(Option<&'a str>, &'a str)>,
    others: Vec<&'a str>,
}

impl<'a> Affected<'a> {
    fn of(event: &'a Event, health: &Health<'a>) -> Self {
        let mut affected = Self::default();
        for name in event.resources().chain(health.entities.iter().map(|entity| entity.value)) {
            let arn = Arn::parse(name).filter(|arn| arn.service == "ecs");
            let pair = name.split_once('|').filter(|(cluster, service)| !cluster.is_empty() && !service.is_empty());
            let named = arn.and_then(|arn| Some((arn, arn.name()?)));
            match (named, pair) {
                (Some((arn, id)), _) if arn.resource_type() == "task" => push(&mut affected.tasks, (arn.cluster(), id)),
                (Some((arn, name)), _) if arn.service_name().is_some() && arn.cluster().is_some() => {
                    push(&mut affected.services, (arn.cluster().unwrap_or_default(), name));
                }
                (None, Some((cluster, service))) => push(&mut affected.services, (cluster.trim(), service.trim())),
                _ => push(&mut affected.others, name),
            }
        }
        affected
    }

    /// The cluster, if it is the same for all affected services and tasks.
    fn cluster(&self) -> Option<&'a str> {
        let services = self.services.iter().map(|(cluster, _)| Some(*cluster));
        let mut clusters = services.chain(self.tasks.iter().map(|(cluster, _)| *cluster));
        let first = clusters.next()??;
        clusters.all(|cluster| cluster == Some(first)).then_some(first)
    }

    fn names(&self, aws_service: Option<&str>) -> String {
        match (self.services.as_slice(), self.tasks.as_slice()) {
            ([], []) => match aws_service {
                Some(service) => format!("AWS {service}"),
                None => "AWS".to_owned(),
            },
            ([], [(_, id)]) => format!("task {}", id.chars().take(8).collect::<String>()),
            ([], tasks) => format!("{} tasks", tasks.len()),
            (services, _) => several(&services.iter().map(|(_, service)| *service).collect::<Vec<_>>(), MAX_NAMED),
        }
    }

    /// The services as `cluster|service`, as in the notice.
    fn list(&self, services: &[(&str, &str)]) -> Option<String> {
        let pairs: Vec<String> = services.iter().map(|(cluster, service)| format!("{cluster}|{service}")).collect();
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        (!pairs.is_empty()).then(|| several(&pairs, 20))
    }

    fn list_of_tasks(&self) -> Option<String> {
        let ids: Vec<&str> = self.tasks.iter().map(|(_, id)| *id).collect();
        (!ids.is_empty()).then(|| several(&ids, 5))
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, one: T) {
    // A linear search is enough: AWS Health lists some hundred resources at most.
    if !list.contains(&one) {
        list.push(one);
    }
}
