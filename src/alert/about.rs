//! What an alert is about, so that alerts about the same thing are one incident. Also, whether it is a problem or a recovery.

use super::{Severity, parts::Parts};
use crate::{
    cause::Category,
    event::{
        Detail, Event,
        ecs::{Action, Task},
    },
};

/// What kind of thing an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An ECS service.
    Service,
    /// An ECS daemon.
    Daemon,
    /// A task definition's family, for tasks that no service started.
    Family,
    /// A container instance.
    Instance,
    /// A CloudWatch alarm.
    Alarm,
}

/// Whether an alert is a problem or a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Something is wrong. With [`Severity::Info`], it may be routine: a single exit, or a failed start that may heal.
    Problem,
    /// AWS says that it works again.
    Recovery,
    /// Neither.
    Other,
}

/// What an alert says about a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollout {
    /// Its tasks fail.
    InTrouble,
    /// It failed.
    Failed,
    /// It is being rolled back, or was.
    RolledBack,
}

/// Which incident an alert may be part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// What kind of thing.
    pub subject: Subject,
    /// Its name in its cluster, or its id.
    pub name: String,
    /// Whether it is a problem or a recovery.
    pub phase: Phase,
    /// The id of the deployment, and what the alert says about it.
    pub deployment: Option<(String, Rollout)>,
    /// The id of the task that failed.
    pub failed_task: Option<String>,
}

impl About {
    /// `None` for an event that no later event resolves: an image scan, a notice of AWS Health, an event about several services.
    pub(super) fn of(parts: &Parts, event: &Event, detail: &Detail) -> Option<Self> {
        let is_problem = parts.severity >= Severity::Warning;
        let about = |subject, name: &str, is_recovery: bool| {
            let phase = match (is_problem, is_recovery) {
                (true, _) => Phase::Problem,
                (false, true) => Phase::Recovery,
                (false, false) => Phase::Other,
            };
            Self { subject, name: name.to_owned(), phase, deployment: None, failed_task: None }
        };
        match detail {
            Detail::ServiceAction(action) | Detail::Deployment(action) | Detail::Hook(action) => {
                let name = event.service().filter(|name| *name == parts.subject)?;
                let is_well = ["SERVICE_STEADY_STATE", "SERVICE_DEPLOYMENT_COMPLETED"].contains(&parts.kind.as_str());
                Some(Self { deployment: deployment(action), ..about(Subject::Service, name, is_well) })
            }
            Detail::DaemonAction(action) | Detail::DaemonDeployment(action) => {
                let name = event.arns().find_map(|arn| arn.daemon_name())?;
                let state = parts.kind.strip_prefix("DAEMON_DEPLOYMENT_").unwrap_or(&parts.kind);
                let is_well = ["SUCCESSFUL", "ROLLBACK_SUCCESSFUL"].contains(&state);
                Some(Self { deployment: deployment(action), ..about(Subject::Daemon, name, is_well) })
            }
            Detail::Task(task) => task_about(parts, event, task, is_problem),
            Detail::InstanceState(instance) => {
                let is_well = instance.status == Some("ACTIVE") && instance.agent_connected == Some(true);
                Some(about(Subject::Instance, instance.id.or(instance.ec2_instance)?, is_well))
            }
            Detail::InstanceHealth(instance) => {
                let is_well = instance.status == Some("OK");
                Some(about(Subject::Instance, instance.id.or(instance.ec2_instance)?, is_well))
            }
            Detail::Alarm(alarm) => Some(about(Subject::Alarm, alarm.name?, alarm.state == Some("OK"))),
            Detail::Health(_)
            | Detail::ApiCall(_)
            | Detail::ImageScan(_)
            | Detail::CodeDeploy(_)
            | Detail::Scaling(_)
            | Detail::Other => None,
        }
    }
}

fn task_about(parts: &Parts, event: &Event, task: &Task, is_problem: bool) -> Option<About> {
    let id = task.arn.and_then(|arn| arn.name()).map(str::to_owned);
    let (subject, name) = match (event.service(), task.is_of_service()) {
        (Some(service), _) => (Subject::Service, service),
        (None, false) => (Subject::Family, task.family()?),
        // The event does not name the service.
        (None, true) => return None,
    };
    let is_over = task.last_status == Some("STOPPED");
    let ended_well = parts.cause.as_ref().is_some_and(|cause| cause.category == Category::Completed);
    let phase = match subject {
        _ if is_problem => Phase::Problem,
        Subject::Family if is_over && ended_well => Phase::Recovery,
        _ => Phase::Other,
    };
    let started_by = task.started_by.filter(|_| subject == Subject::Service && is_problem);
    Some(About {
        subject,
        name: name.to_owned(),
        phase,
        deployment: started_by.map(|by| (by.to_owned(), Rollout::InTrouble)),
        failed_task: id.filter(|_| is_problem && is_over),
    })
}

fn deployment(action: &Action) -> Option<(String, Rollout)> {
    let id = action.deployment_id?.to_owned();
    let name = action.name.unwrap_or_default();
    let rolls_back = action.reason.is_some_and(|reason| {
        let reason = reason.to_ascii_lowercase();
        ["roll back", "rolling back", "rolled back", "rollback"].iter().any(|phrase| reason.contains(phrase))
    });
    let rollout = match name {
        _ if name.ends_with("_FAILED") => Rollout::Failed,
        _ if rolls_back || name.contains("ROLLBACK") => Rollout::RolledBack,
        _ => Rollout::InTrouble,
    };
    Some((id, rollout))
}
