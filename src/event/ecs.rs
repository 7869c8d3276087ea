//! The details of ECS's events. Every field may be missing; a field of an unexpected type counts as missing.
//!
//! Field names: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html>

use serde_json::Value;

use super::{Arn, list, text};

/// How many containers of a task are read. A task definition has ten at most.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html>
const MAX_CONTAINERS: usize = 20;

/// The detail of any event with an `eventName`: about services, deployments, hooks and daemons.
#[derive(Debug, Clone, Default)]
pub struct Action<'a> {
    /// `SERVICE_TASK_START_IMPAIRED` …
    pub name: Option<&'a str>,
    /// Why, as ECS says it.
    pub reason: Option<&'a str>,
    /// Of a deployment: `ecs-svc/123`.
    pub deployment_id: Option<&'a str>,
    /// Of a daemon's failure: `TASK_FAILED_TO_RUN`, `TASK_CREATION_FAILED`.
    pub failure_type: Option<&'a str>,
    /// Of a daemon's failure: the task, if there was one.
    pub task: Option<Arn<'a>>,
    /// The name of the first capacity provider concerned.
    pub capacity_provider: Option<&'a str>,
    /// The ids of the container instances concerned.
    pub container_instances: Vec<&'a str>,
    /// Of a hook: the stage of the deployment.
    pub lifecycle_stage: Option<&'a str>,
    /// Of a hook: when the waiting ends, in RFC 3339.
    pub expires_at: Option<&'a str>,
    /// Of a hook: what ECS does if nobody acts before that, `CONTINUE` or `ROLLBACK`.
    pub timeout_action: Option<&'a str>,
    /// Of a hook: `PAUSE`, `AWS_LAMBDA`.
    pub hook_type: Option<&'a str>,
    /// Of a hook: the id that `ContinueServiceDeployment` needs.
    pub hook_id: Option<&'a str>,
    /// Of a hook: the ARN of its deployment.
    pub service_deployment: Option<&'a str>,
}

impl<'a> Action<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        Self {
            name: text(detail, "eventName"),
            reason: text(detail, "reason"),
            deployment_id: text(detail, "deploymentId"),
            failure_type: text(detail, "failureType"),
            task: text(detail, "taskArn").and_then(Arn::parse),
            capacity_provider: names(detail, "capacityProviderArns").next().or(text(detail, "capacityProviderName")),
            container_instances: names(detail, "containerInstanceArns").chain(instance_id(detail)).collect(),
            lifecycle_stage: text(detail, "lifecycleStage"),
            expires_at: text(detail, "expiresAt"),
            timeout_action: text(detail, "timeoutAction"),
            hook_type: text(detail, "hookType"),
            hook_id: text(detail, "hookId"),
            service_deployment: text(detail, "serviceDeploymentArn"),
        }
    }
}

/// A task: the fields that explain why it stopped.
#[derive(Debug, Clone, Default)]
pub struct Task<'a> {
    /// With or without the cluster's name, which older ARNs lack.
    pub arn: Option<Arn<'a>>,
    /// `PROVISIONING` … `RUNNING` … `STOPPED`.
    pub last_status: Option<&'a str>,
    /// `TaskFailedToStart`, `EssentialContainerExited` …
    pub stop_code: Option<&'a str>,
    /// Why the task stopped, as ECS says it.
    pub stopped_reason: Option<&'a str>,
    /// `service:NAME` or `family:NAME`.
    pub group: Option<&'a str>,
    /// `ecs-svc/…` if a service started it.
    pub started_by: Option<&'a str>,
    /// Missing if it never ran.
    pub started_at: Option<&'a str>,
    /// `FAMILY:REVISION`.
    pub task_definition: Option<&'a str>,
    /// `eu-central-1c`.
    pub availability_zone: Option<&'a str>,
    /// `FARGATE`, `EC2`, `EXTERNAL`.
    pub launch_type: Option<&'a str>,
    /// `FARGATE_SPOT`, or a capacity provider of the user.
    pub capacity_provider: Option<&'a str>,
    /// Of Fargate: `1.4.0`.
    pub platform_version: Option<&'a str>,
    /// `Linux`, `WINDOWS_SERVER_2019_CORE`.
    pub platform_family: Option<&'a str>,
    /// ECS's id of the container instance that the task is on.
    pub container_instance: Option<&'a str>,
    /// In the event's order.
    pub containers: Vec<Container<'a>>,
}

/// A container of a task.
#[derive(Debug, Clone, Copy, Default)]
pub struct Container<'a> {
    /// As in the task definition.
    pub name: Option<&'a str>,
    /// As in the task definition.
    pub image: Option<&'a str>,
    /// Missing if it never started, or if the host was lost.
    pub exit_code: Option<i64>,
    /// Why it failed, as ECS or the container's runtime says it.
    pub reason: Option<&'a str>,
    /// `HEALTHY`, `UNHEALTHY`, `UNKNOWN`. ECS's API has it, most events do not.
    pub health: Option<&'a str>,
}

impl<'a> Task<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        Self {
            arn: text(detail, "taskArn").and_then(Arn::parse),
            last_status: text(detail, "lastStatus"),
            stop_code: text(detail, "stopCode"),
            stopped_reason: text(detail, "stoppedReason"),
            group: text(detail, "group"),
            started_by: text(detail, "startedBy"),
            started_at: text(detail, "startedAt"),
            task_definition: text(detail, "taskDefinitionArn").and_then(Arn::parse).and_then(|arn| arn.name()),
            availability_zone: text(detail, "availabilityZone"),
            launch_type: text(detail, "launchType"),
            capacity_provider: text(detail, "capacityProviderName"),
            platform_version: text(detail, "platformVersion"),
            platform_family: text(detail, "platformFamily"),
            container_instance: instance_id(detail),
            containers: list(detail, "containers").take(MAX_CONTAINERS).map(Container::read).collect(),
        }
    }

    /// The family of its task definition, else the one in its group.
    pub fn family(&self) -> Option<&'a str> {
        let defined = self.task_definition.and_then(|name| name.split(':').next());
        defined.or_else(|| self.group?.strip_prefix("family:"))
    }

    /// Whether a service keeps it running.
    pub fn is_of_service(&self) -> bool {
        self.group.is_some_and(|group| group.starts_with("service:"))
            || self.started_by.is_some_and(|by| by.starts_with("ecs-svc/"))
    }

    /// Whether it is a stand-alone task: started for one job, and not started again by ECS.
    pub fn is_alone(&self) -> bool {
        let of_others = |group: &str| group.starts_with("service:") || group.starts_with("daemon:");
        self.group.is_some_and(|group| !of_others(group))
            && !self.is_of_service()
            && !self.started_by.is_some_and(|by| by.starts_with("ecs-daemon"))
    }

    /// Whether it runs on a container instance: on EC2, on the user's own server, or on an instance that ECS manages.
    pub fn is_on_instance(&self) -> bool {
        self.container_instance.is_some() || matches!(self.launch_type, Some("EC2" | "EXTERNAL" | "MANAGED_INSTANCES"))
    }

    /// Whether any of its containers ran.
    pub fn ran(&self) -> bool {
        self.started_at.is_some() || self.containers.iter().any(|container| container.exit_code.is_some())
    }

    /// The container, if the task has only one that AWS did not add.
    pub fn only_container(&self) -> Option<Container<'a>> {
        let mut own = self.containers.iter().filter(|container| !container.is_of_aws());
        match (own.next(), own.next()) {
            (Some(only), None) => Some(*only),
            _ => self.containers.first().filter(|_| self.containers.len() == 1).copied(),
        }
    }

    /// The task's reason, if it says more than that the task failed to start or that a container exited.
    pub fn own_reason(&self) -> Option<&'a str> {
        self.stopped_reason.filter(|reason| !is_general(reason) && !reason.trim().is_empty())
    }

    /// ECS's reasons, a line each, in this order: the task's own reason; the containers' reasons; the task's reason if it says only that
    /// the task failed to start or that a container exited; the reasons of containers that never started while others ran.
    pub fn reasons(&self) -> Option<String> {
        let mut reasons: Vec<String> = self.own_reason().map(str::to_owned).into_iter().collect();
        let ran = self.started_at.is_some();
        for never_started in [false, true] {
            for container in self.containers.iter().filter(|it| (ran && it.exit_code.is_none()) == never_started) {
                let is_new = |reason: &&str| !reasons.iter().any(|known| known.contains(reason));
                let Some(reason) = container.reason.filter(is_new) else { continue };
                match container.name.filter(|_| self.containers.len() > 1) {
                    Some(name) => reasons.push(format!("{name}: {reason}")),
                    None => reasons.push(reason.to_owned()),
                }
            }
            if !never_started {
                reasons.extend(self.stopped_reason.filter(|reason| is_general(reason)).map(str::to_owned));
            }
        }
        (!reasons.is_empty()).then(|| reasons.join("\n"))
    }
}

fn is_general(reason: &str) -> bool {
    ["Task failed to start", "Essential container in task exited"].contains(&reason.trim().trim_end_matches('.'))
}

impl<'a> Container<'a> {
    /// Whether AWS added it to the task: its image, command and health check are not the user's.
    pub fn is_of_aws(&self) -> bool {
        self.is_guardduty_agent() || self.is_service_connect()
    }

    /// Whether it is the agent of GuardDuty's Runtime Monitoring, which is never essential.
    /// <https://docs.aws.amazon.com/guardduty/latest/ug/how-runtime-monitoring-works-ecs-fargate.html>
    pub fn is_guardduty_agent(&self) -> bool {
        self.name.is_some_and(|name| name.starts_with("aws-guardduty-agent"))
    }

    /// Whether it is the proxy of ECS Service Connect, which is essential.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-connect-concepts-deploy.html>
    pub fn is_service_connect(&self) -> bool {
        self.name.is_some_and(|name| name.starts_with("ecs-service-connect-"))
    }

    fn read(container: &'a Value) -> Self {
        let exit_code =
            container.get("exitCode").and_then(|code| code.as_i64().or_else(|| code.as_str()?.parse().ok()));
        Self {
            name: text(container, "name"),
            image: text(container, "image"),
            exit_code,
            reason: text(container, "reason"),
            health: text(container, "healthStatus"),
        }
    }
}

/// A container instance registered, drained, lost its agent …
#[derive(Debug, Clone, Default)]
pub struct InstanceState<'a> {
    /// ECS's id of the container instance.
    pub id: Option<&'a str>,
    /// `i-…`
    pub ec2_instance: Option<&'a str>,
    /// `ACTIVE`, `DRAINING`, `REGISTRATION_FAILED` …
    pub status: Option<&'a str>,
    /// Why it has this status, as ECS says it.
    pub status_reason: Option<&'a str>,
    /// In normal operation, it is false several times an hour.
    pub agent_connected: Option<bool>,
}

impl<'a> InstanceState<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        Self {
            id: instance_id(detail),
            ec2_instance: text(detail, "ec2InstanceId"),
            status: text(detail, "status"),
            status_reason: text(detail, "statusReason"),
            agent_connected: detail.get("agentConnected").and_then(Value::as_bool),
        }
    }
}

/// A container instance became impaired or healthy.
#[derive(Debug, Clone, Default)]
pub struct InstanceHealth<'a> {
    /// ECS's id of the container instance.
    pub id: Option<&'a str>,
    /// `i-…`
    pub ec2_instance: Option<&'a str>,
    /// `OK`, `IMPAIRED` …
    pub status: Option<&'a str>,
    /// Usually a capacity provider of the user.
    pub capacity_provider: Option<&'a str>,
    /// The health checks, each with its result.
    pub checks: Vec<HealthCheck<'a>>,
}

/// One health check of a container instance.
#[derive(Debug, Clone, Copy, Default)]
pub struct HealthCheck<'a> {
    /// `CONTAINER_RUNTIME`, `ACCELERATED_COMPUTE`, `DAEMON`, `AGENT_CONNECTIVITY`.
    pub kind: Option<&'a str>,
    /// `OK`, `IMPAIRED` …
    pub status: Option<&'a str>,
    /// Why it has this status, as ECS says it.
    pub reason: Option<&'a str>,
}

impl<'a> InstanceHealth<'a> {
    /// Reads a detail.
    pub fn read(detail: &'a Value) -> Self {
        let check = |check| HealthCheck {
            kind: text(check, "type"),
            status: text(check, "status"),
            reason: text(check, "statusReason"),
        };
        Self {
            id: instance_id(detail),
            ec2_instance: text(detail, "ec2InstanceId"),
            status: text(detail, "overallStatus"),
            capacity_provider: text(detail, "capacityProviderName"),
            checks: list(detail, "healthChecks").map(check).collect(),
        }
    }
}

fn instance_id(detail: &Value) -> Option<&str> {
    text(detail, "containerInstanceArn").and_then(Arn::parse).and_then(|arn| arn.name())
}

/// The names in a list of ARNs.
fn names<'a>(detail: &'a Value, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    list(detail, key).filter_map(|arn| Arn::parse(arn.as_str()?)?.name())
}
