//! Events of ECS about problems and about normal changes, as EventBridge delivers them. Each has a new id and the current time.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::aws::{ACCOUNT, REGION};

/// The origin of events.
#[derive(Debug, Clone, Copy)]
pub struct Ecs<'a> {
    /// The AWS account's id.
    pub account: &'a str,
    /// The AWS region.
    pub region: &'a str,
    /// The cluster's name.
    pub cluster: &'a str,
}

impl Default for Ecs<'_> {
    fn default() -> Self {
        Self { account: ACCOUNT, region: REGION, cluster: "production" }
    }
}

/// How the container of a stopped task ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stop<'a> {
    /// `stopCode`.
    pub code: &'a str,
    /// `stoppedReason`.
    pub reason: &'a str,
    /// The container's `exitCode`; `None` if it never ran.
    pub exit_code: Option<i64>,
    /// The container's own `reason`.
    pub container_reason: Option<&'a str>,
}

impl Ecs<'_> {
    /// SERVICE_TASK_START_IMPAIRED: the service cannot start its tasks.
    pub fn start_impaired(self, service: &str) -> Value {
        self.service_action(service, "WARN", "SERVICE_TASK_START_IMPAIRED", None)
    }

    /// SERVICE_TASK_PLACEMENT_FAILURE: no instance has room.
    pub fn placement_failure(self, service: &str) -> Value {
        self.service_action(service, "ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", Some("RESOURCE:MEMORY"))
    }

    /// SERVICE_STEADY_STATE: as many tasks run as are desired.
    pub fn steady_state(self, service: &str) -> Value {
        self.service_action(service, "INFO", "SERVICE_STEADY_STATE", None)
    }

    /// SERVICE_DEPLOYMENT_FAILED, by the circuit breaker.
    pub fn deployment_failed(self, service: &str) -> Value {
        let reason = "ECS deployment circuit breaker: tasks failed to start.";
        self.deployment(service, "ERROR", "SERVICE_DEPLOYMENT_FAILED", reason)
    }

    /// SERVICE_DEPLOYMENT_IN_PROGRESS of a rollback.
    pub fn rollback(self, service: &str) -> Value {
        let reason = format!("ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/{}.", digits());
        self.deployment(service, "INFO", "SERVICE_DEPLOYMENT_IN_PROGRESS", &reason)
    }

    /// SERVICE_DEPLOYMENT_IN_PROGRESS of an ordinary deployment.
    pub fn deployment_begun(self, service: &str) -> Value {
        let reason = format!("ECS deployment ecs-svc/{} in progress.", digits());
        self.deployment(service, "INFO", "SERVICE_DEPLOYMENT_IN_PROGRESS", &reason)
    }

    /// SERVICE_DEPLOYMENT_COMPLETED.
    pub fn deployment_completed(self, service: &str) -> Value {
        let reason = format!("ECS deployment ecs-svc/{} completed.", digits());
        self.deployment(service, "INFO", "SERVICE_DEPLOYMENT_COMPLETED", &reason)
    }

    /// A task that did not start: the image is not in the registry.
    pub fn image_missing(self, service: &str) -> Value {
        let image = self.image(service);
        self.failed_to_start(
            service,
            &format!(
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref \
                 {image}: {image}: not found"
            ),
        )
    }

    /// A task that did not start: the execution role may not pull the image.
    pub fn ecr_denied(self, service: &str) -> Value {
        let Self { account, region, .. } = self;
        self.failed_to_start(
            service,
            &format!(
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                 failed: unable to retrieve ecr registry auth: service call has been retried 1 time(s): \
                 AccessDeniedException: User: arn:aws:sts::{account}:assumed-role/{service}-execution/{} is not \
                 authorized to perform: ecr:GetAuthorizationToken on resource: * because no identity-based policy \
                 allows the ecr:GetAuthorizationToken action. Region: {region}",
                hex(32)
            ),
        )
    }

    /// A task that did not start: a secret of its definition does not exist.
    pub fn secret_missing(self, service: &str) -> Value {
        let Self { account, region, .. } = self;
        self.failed_to_start(
            service,
            &format!(
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                 failed: unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch \
                 secret arn:aws:secretsmanager:{region}:{account}:secret:{service}/database from secrets manager: \
                 ResourceNotFoundException: Secrets Manager can't find the specified secret."
            ),
        )
    }

    /// A task that did not start: its log group does not exist.
    pub fn log_group_missing(self, service: &str) -> Value {
        self.failed_to_start(
            service,
            &format!(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 time(s): \
                 failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not \
                 exist. : exit status 1: /ecs/{service}"
            ),
        )
    }

    /// A task that did not start: its subnet has no route to the registry.
    pub fn no_route(self, service: &str) -> Value {
        let region = self.region;
        self.failed_to_start(
            service,
            &format!(
                "ResourceInitializationError: unable to pull secrets or registry auth: The task cannot pull registry \
                 auth from Amazon ECR: There is a connection issue between the task and Amazon ECR. Check your task \
                 network configuration. RequestError: send request failed caused by: Post \
                 \"https://api.ecr.{region}.amazonaws.com/\": dial tcp: i/o timeout"
            ),
        )
    }

    /// A task that was killed because it ran out of memory.
    pub fn out_of_memory(self, service: &str) -> Value {
        let stop = Stop {
            code: "EssentialContainerExited",
            reason: "Essential container in task exited",
            exit_code: Some(137),
            container_reason: Some("OutOfMemoryError: Container killed due to memory usage"),
        };
        self.task_stopped(service, stop)
    }

    /// A task whose program ended with this exit code.
    pub fn essential_container_exited(self, service: &str, exit_code: i64) -> Value {
        let reason = "Essential container in task exited";
        let code = "EssentialContainerExited";
        self.task_stopped(service, Stop { code, reason, exit_code: Some(exit_code), container_reason: None })
    }

    /// A task that the scheduler stopped because the load balancer found it unhealthy.
    pub fn failed_health_check(self, service: &str) -> Value {
        let Self { account, region, .. } = self;
        let reason = format!(
            "Task failed ELB health checks in (target-group \
             arn:aws:elasticloadbalancing:{region}:{account}:targetgroup/{service}/{})",
            hex(16)
        );
        let code = "ServiceSchedulerInitiated";
        self.task_stopped(service, Stop { code, reason: &reason, exit_code: Some(143), container_reason: None })
    }

    /// A task that a scale-in stopped. This is routine, even if its program had to be killed.
    pub fn scaled_in(self, service: &str) -> Value {
        let Self { account, region, cluster } = self;
        let reason = format!(
            "Scaling activity initiated by (deployment ecs-svc/{}) \
             (service arn:aws:ecs:{region}:{account}:service/{cluster}/{service})",
            digits()
        );
        let code = "ServiceSchedulerInitiated";
        self.task_stopped(service, Stop { code, reason: &reason, exit_code: Some(137), container_reason: None })
    }

    /// A task that somebody stopped.
    pub fn stopped_by_user(self, service: &str) -> Value {
        let (code, reason) = ("UserInitiated", "Task stopped by user");
        self.task_stopped(service, Stop { code, reason, exit_code: Some(0), container_reason: None })
    }

    /// The two-minute warning of a Spot interruption: the task still runs.
    pub fn spot_warning(self, service: &str) -> Value {
        let reason = "Your Spot Task was interrupted.";
        let mut event = self.task_stopped(service, Stop { code: "SpotInterruption", reason, ..Stop::default() });
        event["detail"]["lastStatus"] = json!("RUNNING");
        event["detail"]["containers"][0]["lastStatus"] = json!("RUNNING");
        event["detail"].as_object_mut().map(|detail| detail.remove("stoppedAt"));
        event
    }

    /// An ECS Task State Change of a service's task that has stopped.
    pub fn task_stopped(self, service: &str, stop: Stop<'_>) -> Value {
        let Self { account, region, cluster } = self;
        let (now, id) = (now(), hex(32));
        let task = format!("arn:aws:ecs:{region}:{account}:task/{cluster}/{id}");
        let mut container = json!({
            "containerArn": format!("arn:aws:ecs:{region}:{account}:container/{cluster}/{id}/{}", uuid()),
            "cpu": "0",
            "image": self.image(service),
            "lastStatus": "STOPPED",
            "name": "app",
            "networkInterfaces": [],
            "taskArn": task,
        });
        if let Some(exit_code) = stop.exit_code {
            container["exitCode"] = json!(exit_code);
            container["runtimeId"] = json!(format!("{id}-{}", digits()));
        }
        if let Some(reason) = stop.container_reason {
            container["reason"] = json!(reason);
        }
        let detail = json!({
            "attachments": [{ "id": uuid(), "type": "eni", "status": "DELETED", "details": [] }],
            "attributes": [{ "name": "ecs.cpu-architecture", "value": "x86_64" }],
            "availabilityZone": format!("{region}a"),
            "clusterArn": format!("arn:aws:ecs:{region}:{account}:cluster/{cluster}"),
            "containers": [container],
            "cpu": "512",
            "createdAt": now,
            "desiredStatus": "STOPPED",
            "group": format!("service:{service}"),
            "lastStatus": "STOPPED",
            "launchType": "FARGATE",
            "memory": "1024",
            // A secret value, which must not leave the worker.
            "overrides": { "containerOverrides": [
                { "name": "app", "environment": [{ "name": "API_TOKEN", "value": "not-for-slack" }] },
            ] },
            "platformVersion": "1.4.0",
            "startedBy": self.deployment_id(service),
            "stopCode": stop.code,
            "stoppedAt": now,
            "stoppedReason": stop.reason,
            "taskArn": task,
            "taskDefinitionArn": format!("arn:aws:ecs:{region}:{account}:task-definition/{service}:42"),
            "updatedAt": now,
            "version": 5,
        });
        self.event("ECS Task State Change", &task, detail)
    }

    /// An ECS Task State Change about this task, which has the form of DescribeTasks.
    pub fn task_changed(self, task: &Value) -> Value {
        self.event("ECS Task State Change", task["taskArn"].as_str().unwrap_or_default(), task.clone())
    }

    /// An ECS Service Action.
    pub fn service_action(self, service: &str, event_type: &str, event_name: &str, reason: Option<&str>) -> Value {
        let Self { account, region, cluster } = self;
        let mut detail = json!({
            "eventType": event_type,
            "eventName": event_name,
            "clusterArn": format!("arn:aws:ecs:{region}:{account}:cluster/{cluster}"),
            "createdAt": now(),
        });
        if let Some(reason) = reason {
            detail["reason"] = json!(reason);
        }
        self.event("ECS Service Action", &self.service_arn(service), detail)
    }

    fn deployment(self, service: &str, event_type: &str, event_name: &str, reason: &str) -> Value {
        let detail = json!({
            "eventType": event_type,
            "eventName": event_name,
            "deploymentId": format!("ecs-svc/{}", digits()),
            "updatedAt": now(),
            "reason": reason,
        });
        self.event("ECS Deployment State Change", &self.service_arn(service), detail)
    }

    fn failed_to_start(self, service: &str, reason: &str) -> Value {
        self.task_stopped(service, Stop { code: "TaskFailedToStart", reason, ..Stop::default() })
    }

    fn event(self, detail_type: &str, resource: &str, detail: Value) -> Value {
        json!({
            "version": "0",
            "id": uuid(),
            "detail-type": detail_type,
            "source": "aws.ecs",
            "account": self.account,
            "time": now(),
            "region": self.region,
            "resources": [resource],
            "detail": detail,
        })
    }

    /// A service's ARN.
    pub fn service_arn(self, service: &str) -> String {
        let Self { account, region, cluster } = self;
        format!("arn:aws:ecs:{region}:{account}:service/{cluster}/{service}")
    }

    /// The id of the deployment that starts a service's tasks. It is always the same, so that failed tasks of one service belong to the
    /// same deployment, as in ECS.
    fn deployment_id(self, service: &str) -> String {
        let seed = self
            .service_arn(service)
            .bytes()
            .fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        format!("ecs-svc/{seed:019}")
    }

    fn image(self, service: &str) -> String {
        format!("{}.dkr.ecr.{}.amazonaws.com/{service}:1.8.2", self.account, self.region)
    }
}

/// The current time in whole seconds, like EventBridge's times.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

fn uuid() -> String {
    let hex = hex(32);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn hex(digits: usize) -> String {
    (0..digits).map(|_| fastrand::digit(16)).collect()
}

fn digits() -> u64 {
    fastrand::u64(1_000_000_000_000_000_000..10_000_000_000_000_000_000)
}
