//! Rules for why a running task was stopped, and for why ECS cannot place a task.

use super::Category::*;
use super::Rule;

/// Before all other rules: these texts say what happened to the task as a whole.
pub(super) const FIRST: &[Rule] = &[
    Rule::new(
        Oom,
        r"\bOutOfMemoryError\b",
        &[
            "OutOfMemoryError: Container killed due to memory usage",
            "OutOfMemoryError: container exceeded its hard limit",
        ],
    ),
    Rule::new(
        Oom,
        r"\bOOM-?killed\b|memory limit too low|\binit (?:was |caused: |caused \W*)signal: killed|\binit died: signal: killed",
        &[
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: runc create failed: unable to start container process: container init was OOM-killed (memory limit too low?): unknown",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: process_linux.go: container init caused: signal: killed: unknown",
        ],
    )
    .advise("The container was killed because it ran out of memory before its command started: raise its memory limit."),
    Rule::new(
        Spot,
        r"Your Spot Task was interrupted|\bSpotInterruption|\bSpot (?:capacity|instance|task)s? (?:\S+ ){0,3}(?:interrupt|reclaim)|\bSpot interruption\b",
        &[
            "Your Spot Task was interrupted.",
            "SpotInterruption: the capacity was reclaimed",
            "Host EC2 (instance i-0123456789abcdef0) terminated: Spot Instance interruption notice",
        ],
    ),
    Rule::new(
        HealthCheckLb,
        r"failed ELB health checks|failed to pass .*\bhealth checks?|is unhealthy in \(?(?:target-group|elb)\b|not healthy in \(?target-group",
        &[
            "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/shop-tg/6d0ecf831eec9f09)",
            "(service shop) (port 8080) is unhealthy in (target-group arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/shop-tg/6d0ecf831eec9f09) due to (reason Health checks failed with these codes: [502])",
            "(service shop) (instance i-0123456789abcdef0) is unhealthy in (elb shop-elb) due to (reason Instance has failed at least the UnhealthyThreshold number of health checks consecutively.)",
            "Task failed to pass VPC Lattice target health checks",
        ],
    ),
    Rule::new(HealthCheckContainer, r"failed container health checks", &["Task failed container health checks"]),
    Rule::new(
        RoutineScaling,
        r"Scaling activity initiated by",
        &["Scaling activity initiated by (deployment ecs-svc/9223370536640198428)"],
    ),
    Rule::new(
        HostGone,
        r"Host EC2 \(instance .*\) (?:stopped|terminated)|deregistration forced|performing maintenance on the underlying|stopped during instance draining",
        &[
            "Host EC2 (instance i-0123456789abcdef0) terminated.",
            "Host EC2 (instance i-0123456789abcdef0) stopped.",
            "Task stopped because of container instance deregistration forced by user",
            "ECS is performing maintenance on the underlying infrastructure hosting the task",
            "Task stopped during instance draining",
        ],
    ),
    Rule::new(User, r"Task stopped by user", &["Task stopped by user"]),
    Rule::new(
        AccountBlocked,
        r"\byour (?:AWS )?account (?:is|was|has been) (?:currently |temporarily )?(?:blocked|suspended|closed|restricted)|\bAccountSuspended|\baccount is currently (?:blocked|suspended)",
        &[
            "(service shop) was unable to place a task because your account is currently blocked.",
            "AccountSuspendedException: Your AWS account has been suspended.",
        ],
    ),
];

/// Texts about a service: placement, quotas, deployments.
pub(super) const SERVICE: &[Rule] = &[
    Rule::new(
        Capacity,
        r"\bRESOURCE:(?:FARGATE|CPU|MEMORY|ENI|PORTS|GPU)|\binsufficient (?:CPU|memory|GPU)\b|\bnot have enough (?:CPU|memory)\b|No Container Instances were found|Capacity is unavailable|EMPTY CAPACITY PROVIDER|provisioning capacity limit|already using a port",
        &[
            "RESOURCE:CPU",
            "RESOURCE:PORTS_TCP",
            "(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching (container-instance 05016874) has insufficient CPU units available.",
            "(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching container-instance is already using a port required by your task.",
            "(service shop) was unable to place a task because no container instance met all of its requirements. Reason: No Container Instances were found in your cluster.",
            "Capacity is unavailable at this time. Please try again later or in a different availability zone",
            "TaskFailedToStart: EMPTY CAPACITY PROVIDER",
        ],
    ),
    Rule::new(
        Quota,
        r"reached the limit on the number of (?:tasks|vCPUs)|configuration is above your limit",
        &[
            "(service shop) was unable to place a task. Reason: You\u{2019}ve reached the limit on the number of vCPUs you can run concurrently",
            "(service shop) was unable to place a task. Reason: You've reached the limit on the number of tasks you can run concurrently",
            "(service shop) was unable to place a task. Reason: The requested MEMORY configuration is above your limit.",
        ],
    ),
    Rule::new(
        Eni,
        r"Create Network Interface.*(?:\.NotFound|\bInvalid(?:SecurityGroup|Subnet|Group))",
        &["Unexpected EC2 error while attempting to Create Network Interface with public IP assignment disabled in subnet 'subnet-0a1b': InvalidSecurityGroupID.NotFound"],
    )
    .advise("EC2 says what is wrong with the network configuration: correct the subnets and security groups that the task is started with."),
    Rule::new(
        Eni,
        r"not have enough (?:free )?(?:IP )?addresses|InsufficientFreeAddresses|Unexpected EC2 error while attempting to Create Network Interface|Timeout waiting for network interface provisioning|unused device index|Network interface provision|failed to configure ENI|setup regular eni",
        &[
            "Unexpected EC2 error while attempting to Create Network Interface with public IP assignment enabled in subnet 'subnet-0123456789abcdef0': InsufficientFreeAddressesInSubnet",
            "ResourceInitializationError: failed to configure ENI: failed to setup regular eni: netplugin failed with no error message",
            "Timeout waiting for network interface provisioning to complete.",
            "The subnet 'subnet-0abc' does not have enough free addresses to satisfy the request.",
        ],
    ),
    Rule::new(
        AwsInternal,
        r"Timeout waiting for EphemeralStorage provisioning|(?:^|Reason: |\(error )Internal ?Error\b",
        &[
            "Timeout waiting for EphemeralStorage provisioning to complete.",
            "InternalError: Unable to complete the operation",
            "(service shop) was unable to place a task. Reason: Internal error.",
        ],
    ),
    Rule::new(
        Agent,
        r#"^(?:\w+: )?AGENT\.?$|error "AGENT"|doesn't have the agent connected|(?:^|[^\w-])agent\b.*\bdisconnected\b|Amazon ECS Agent to start"#,
        &[
            "AGENT",
            "(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching container-instance 05016874 doesn't have the agent connected.",
            "(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching container-instance 05016874 encountered error \"AGENT\".",
            "Agent disconnected since 2026-07-29T22:34:13Z",
            "Timed out waiting for the Amazon ECS Agent to start",
        ],
    ),
    Rule::new(
        PlacementConfig,
        r#"^(?:\w+: )?ATTRIBUTE\.?$|error "ATTRIBUTE"|missing (?:an? |the )?(?:required )?attribute\b|placement constraint|not compatible with the selected compute|does not satisfy the task's runtime platform"#,
        &[
            "ATTRIBUTE",
            "(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching container-instance 05016874 is missing an attribute required by your task.",
            "(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching (container-instance 05016874) encountered error \"MemberOf placement constraint unsatisfied.\"",
        ],
    ),
    // After the other placement rules: the text after "no container instance met all of its requirements" may name the requirement.
    Rule::new(
        Capacity,
        r"no container instance met",
        &[
            "(service shop) is unable to place a task in eu-west-1a because no container instance met all of its requirements.",
        ],
    ),
    Rule::new(
        Throttled,
        r"operations are being throttled|\bThrottlingException\b|\bTooManyRequestsException\b|\bRate exceeded\b",
        &[
            "(service shop) operations are being throttled on elb. Will try again later.",
            "ThrottlingException: Rate exceeded",
            "TooManyRequestsException: slow down",
        ],
    ),
    Rule::new(
        DeployConfig,
        r"\bminimumHealthyPercent\b|\bmaximumPercent\b",
        &[
            "(service shop) was unable to stop or start tasks during a deployment because of the service deployment configuration. Update the minimumHealthyPercent or maximumPercent value and try again.",
        ],
    ),
    Rule::new(
        TaskProtection,
        r"protected tasks are more than",
        &[
            "(service shop) was unable to scale in because the number of protected tasks are more than the desired count of tasks",
        ],
    ),
    Rule::new(
        Deployment,
        r"circuit breaker: tasks? failed to start|deployment failed: tasks failed|circuit breaker threshold was exceeded",
        &[
            "ECS deployment circuit breaker: task failed to start.",
            "ECS deployment circuit breaker: tasks failed to start.",
            "(service shop) (deployment ecs-svc/123) deployment failed: tasks failed to start.",
            "Service deployment rolled back because the circuit breaker threshold was exceeded.",
        ],
    ),
];
