//! Why a task stopped: stop code, reasons and exit codes in; a cause and a hint a person can act on out. Pure.
//!
//! ECS tells the cause in prose, so this is an ordered catalogue of the phrases it uses: the first that matches wins, and
//! exit codes count only when no phrase did. A hint never claims more than the text does, and what it quotes of the text
//! is raw, on one line, and short.

use std::sync::LazyLock;

use regex::bytes;

use self::hint::{fragment, hint};

mod hint;

use crate::event::ecs::Task;

/// What an event tells about a failure. Borrowed from the event.
#[derive(Debug, Clone, Default)]
pub struct Evidence<'a> {
    /// `stopCode` of a stopped task.
    pub stop_code: Option<&'a str>,
    /// `stoppedReason` of a task, or the `reason` of a placement failure or deployment.
    pub reason: Option<&'a str>,
    /// `group` of a task: `service:NAME` or `family:NAME`.
    pub group: Option<&'a str>,
    /// The task's containers; empty for anything but a task.
    pub containers: Vec<Container<'a>>,
}

impl<'a> Evidence<'a> {
    /// What a task tells.
    pub fn of_task(task: &Task<'a>) -> Self {
        let containers = task.containers.iter().map(|container| Container {
            name: container.name,
            image: container.image,
            exit_code: container.exit_code,
            reason: container.reason,
        });
        Self {
            stop_code: task.stop_code,
            reason: task.stopped_reason,
            group: task.group,
            containers: containers.collect(),
        }
    }
}

/// One container of a stopped task.
#[derive(Debug, Clone, Copy, Default)]
pub struct Container<'a> {
    /// Its name.
    pub name: Option<&'a str>,
    /// Its image, as in the task definition.
    pub image: Option<&'a str>,
    /// None: it never started, or the host was lost.
    pub exit_code: Option<i64>,
    /// Its own reason.
    pub reason: Option<&'a str>,
}

/// Why it failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// From the closed catalogue.
    pub category: Category,
    /// What to do, one or two sentences; may name the action, resource, role, image … found in the text.
    pub hint: String,
}

/// Declares [`Category`] once, so that names, titles, advice and `ALL` cannot drift apart.
macro_rules! categories {
    ($($variant:ident $name:literal $title:literal $advice:literal)*) => {
        /// Every cause there is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Category {
            $(#[doc = $title] $variant,)*
        }

        impl Category {
            /// Every category.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in logs and in what `render` prints: snake_case, stable.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// A few words for a phone's screen.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What to do when the text names nothing.
            const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

categories! {
    Oom "oom" "Out of memory"
        "Raise the memory limit of the container or task, or fix the leak (JVM: -XX:MaxRAMPercentage)."
    Spot "spot" "Spot interruption"
        "Expected with Spot. If the service stays short of tasks, add an on-demand base or more Availability Zones."
    RegistryRateLimit "registry_rate_limit" "Registry rate limit"
        "Authenticate the pulls (Docker Hub: repositoryCredentials), or pull through an ECR cache."
    Disk "disk" "Disk full"
        "EC2: clean up or grow the instance's volume. Fargate: raise ephemeralStorage (20 GiB by default)."
    Iam "iam" "IAM permission missing"
        "Check the role's policies: Fargate pulls with the task execution role, EC2 with the instance role; secrets need \
         the execution role."
    SecretMissing "secret_missing" "Secret or parameter not found"
        "Create it in the task's account and Region, or correct valueFrom in the task definition."
    SecretKeyMissing "secret_key_missing" "Key missing in secret"
        "Add the JSON key that valueFrom names to the secret, or correct valueFrom in the task definition."
    LogConfig "log_config" "Log configuration broken"
        "Create the log group in the task's Region, or set awslogs-create-group=true and allow logs:CreateLogGroup."
    Network "network" "Network unreachable"
        "A public subnet needs assignPublicIp; a private one NAT, or endpoints (ecr.api, ecr.dkr, s3, logs, \
         secretsmanager, ssm) whose security group allows 443."
    ImageMissing "image_missing" "Image not found"
        "Push it, or correct the tag and redeploy."
    ImageAuth "image_auth" "Registry refused access"
        "Check repositoryCredentials for a private registry, the pulling role and the repository policy for ECR."
    Architecture "architecture" "Wrong CPU architecture"
        "Set runtimePlatform.cpuArchitecture to what the image is built for, or build it for several platforms."
    ImageCorrupt "image_corrupt" "Image cannot be unpacked"
        "Rebuild and push it, with one kind of layer compression and without attestations (--provenance=false)."
    ImagePull "image_pull" "Image pull failed"
        "ECS's words do not tell why: check the image's name, the role's permissions and the route to the registry."
    HealthCheckLb "health_check_lb" "Load balancer health check failed"
        "Check path, port and security groups, that the app listens on 0.0.0.0, and that it starts within \
         healthCheckGracePeriodSeconds."
    HealthCheckContainer "health_check_container" "Container health check failed"
        "The HEALTHCHECK command fails: try it inside the container, or raise startPeriod if the app starts slowly."
    Capacity "capacity" "No capacity to place the task"
        "Add or free container instances; on Fargate try other Availability Zones, or fall back to on-demand."
    Quota "quota" "Account quota reached"
        "Stop what is not needed, or request an increase in Service Quotas."
    Eni "eni" "Network interface not provisioned"
        "Check the subnet's free IP addresses and the ENI limits; often the next attempt succeeds."
    AwsInternal "aws_internal" "Internal error of AWS"
        "Usually transient. If it lasts, check AWS Health and that the subnet's Availability Zone is supported."
    Agent "agent" "ECS agent disconnected"
        "Restart the agent on the instance (systemctl restart ecs) and read /var/log/ecs/ecs-agent.log."
    PlacementConfig "placement_config" "No instance fits the task"
        "The task needs an attribute, constraint or launch type that no instance of the cluster offers."
    Volume "volume" "Volume not mounted"
        "EFS: check the mount target in the task's zone, TCP 2049 in its security group, and IAM authorization."
    StartCommand "start_command" "Container failed to start"
        "Check entryPoint and command, that the file exists and is executable, and that memory suffices to start."
    RuntimeTimeout "runtime_timeout" "Container runtime timed out"
        "The host may be overloaded or its runtime stuck. EC2: check the instance's CPU, disk and Docker."
    Runtime "runtime" "Container runtime fault"
        "See whether the next task starts. EC2: check Docker on the instance, and replace it if this repeats."
    Dependency "dependency" "Container dependency failed"
        "A container that another waits for (dependsOn) did not reach its condition: look at that one first."
    RoutineScaling "routine_scaling" "Routine scaling"
        "ECS scaled in or replaced the task: nothing to do."
    HostGone "host_gone" "Host impaired or gone"
        "Its host was impaired, stopped, drained or under maintenance: check that the service has all its tasks again."
    User "user" "Stopped by a user"
        "Somebody or something called StopTask: nothing to do."
    Throttled "throttled" "AWS API throttled"
        "ECS tries again by itself; if it lasts, find who calls so often, or ask for a higher API quota."
    DeployConfig "deploy_config" "Deployment percentages too tight"
        "minimumHealthyPercent and maximumPercent leave no room to start or stop a task: widen them."
    TaskProtection "task_protection" "Protected tasks block scale-in"
        "More tasks are protected than desired: wait until they finish, or end their protection."
    Deployment "deployment" "Tasks failed to start"
        "Only a symptom: the stopped tasks of this deployment tell the cause."
    ResourceInit "resource_init" "Task resources not set up"
        "ECS's words end before the cause. Usual ones: the execution role lacks a permission, or there is no route to \
         ECR, Secrets Manager, SSM or CloudWatch Logs."
    Completed "completed" "Exited with 0"
        "Nothing to do."
    Crash "crash" "Container crashed"
        "See its last log lines."
    Sigkill "sigkill" "Killed (SIGKILL)"
        "ECS does not say it was for memory: check the memory graph, and whether it outran stopTimeout when asked to stop."
    Sigterm "sigterm" "Terminated (SIGTERM)"
        "Normal when a task is stopped; if this one was not, find what sent the signal."
    NoExitCode "no_exit_code" "Never started, or host lost"
        "No container left an exit code: it never started, or its host was lost. EC2: check the container instance."
}

impl Category {
    /// Whether this is routine life rather than a problem. `Completed` is routine for a batch task only: for a task of a
    /// service (`group` is `service:…`) it is a fault, which the category alone does not tell.
    pub const fn is_routine(self) -> bool {
        matches!(self, Self::RoutineScaling | Self::User | Self::Completed)
    }
}

/// The cause, as far as the evidence tells; `None` when there is nothing to go on.
pub fn explain(evidence: &Evidence<'_>) -> Option<Cause> {
    let text = examined_text(evidence);
    let phrase = PHRASES.matches(text.as_bytes()).iter().next().and_then(|rule| RULES.get(rule)).map(|rule| rule.0);
    let category = match (evidence.stop_code, phrase) {
        // Whatever else its containers say, they were being stopped; only running out of memory came before that.
        (Some("SpotInterruption" | "TerminationNotice"), phrase) if phrase != Some(Category::Oom) => Category::Spot,
        (_, Some(category)) => category,
        (Some("InfrastructureHealth"), None) => Category::HostGone,
        (Some("UserInitiated"), None) => Category::User,
        // The scheduler's other reason, a failed health check, has its phrase. The exit codes only follow from the stop.
        (Some("ServiceSchedulerInitiated"), None) => Category::RoutineScaling,
        (_, None) => return explain_exit(evidence, &text),
    };
    Some(Cause { category, hint: hint(category, &text, evidence) })
}

/// The catalogue, most telling phrase first. Patterns ignore case, see one reason per line (so `^` and `$` bound a reason
/// and `.` stays within one), and run as one set: linear in the text.
const RULES: &[(Category, &str)] = &[
    (Category::Oom, r"\bOutOfMemoryError\b"),
    (Category::Spot, r"Your Spot Task was interrupted|\bSpotInterruption"),
    (Category::RegistryRateLimit, r"\btoomanyrequests\b|pull rate limit|\bToo Many Requests\b"),
    (Category::Disk, r"no space left on device"),
    // Before `ImageMissing`: ECR's denial also says "repository does not exist or may require 'docker login'".
    (
        Category::Iam,
        r"\bAccessDenied(?:Exception)?\b|not authorized to perform|Check that the role has the permissions|unable to assume (?:the )?(?:[\w-]+ ){0,3}role|\bUnrecognizedClient|IAM permissions policies have been misconfigured|IAM trust relationship",
    ),
    // Before whatever such a text says it "cannot find": a log group that could not be looked up need not be missing.
    (
        Category::Network,
        r"\bconnection issue\b|Check your (?:task )?network (?:configuration|connection)|(?:logger args|logging driver|log group).*(?:signal: killed|i/o timeout|context deadline exceeded|request send failed|send request failed|lookup logs\.)",
    ),
    (
        Category::SecretMissing,
        r"Secrets Manager can't find the specified secret|can't retrieve the secret with ARN|\bParameterNotFound\b|invalid ssm parameters|(?:\bssm\b|Parameter Store).*\binvalid parameters",
    ),
    (Category::SecretKeyMissing, r"\bjson key\b|\bspecific key .* not found"),
    (
        Category::LogConfig,
        r"log group does not exist|failed to validate logger args|failed to initialize logging driver|cannot find the Amazon CloudWatch log group",
    ),
    // Before `Network`: here the deadline is the container runtime's, not a connection's.
    (
        Category::RuntimeTimeout,
        r"\bCannot(?:Start|Create|Stop|Inspect)ContainerError\b.*context (?:deadline exceeded|canceled)",
    ),
    // A bare "signal: killed" is not enough: the kernel kills a container's init for lack of memory with the same words.
    (
        Category::Network,
        r"\bi/o timeout\b|TLS handshake timeout|request canceled while waiting for connection|Client\.Timeout exceeded|context (?:deadline exceeded|canceled)|\bdial tcp\b|\bno such host\b|connection reset by peer|send request failed|request send failed|(?:ResourceInitializationError|EFS utils).*signal: killed",
    ),
    // These three before `ImageMissing`, whose "failed to resolve ref" and ": not found" may stand around them.
    (
        Category::ImageAuth,
        r"no basic auth credentials|\bauthorization token\b|failed to authorize|(?:pull|resolve ref).*\b(?:401 Unauthorized|403 Forbidden)",
    ),
    (
        Category::Architecture,
        r"descriptor matching platform|exec format error|no matching manifest|no match for platform",
    ),
    (
        Category::ImageCorrupt,
        r"diffIDs don't match|failed to unpack image|no processor for media-type|failed to extract layer",
    ),
    // ": not found" needs a pull or an image before it: a shell says the same of a command.
    (
        Category::ImageMissing,
        r"manifest unknown|manifest for .* not found|failed to resolve ref|\bCannotPull.*: not found\b|\S/\S+:[\w.-]+: not found\b|\brepository (?:.* )?(?:not found|does not exist)|Requested image not found|Check whether the image exists|requested access to the resource is denied|\bname unknown\b|invalid reference format",
    ),
    (Category::ImageAuth, r"pull access denied"),
    (Category::Throttled, r"\bCannotPull.*(?:\bThrottlingException\b|Rate exceeded)"),
    (Category::ImagePull, r"\bCannotPull(?:Container|ImageManifest|ECRContainer)"),
    (
        Category::HealthCheckLb,
        r"failed ELB health checks|failed to pass .*\bhealth checks?|is unhealthy in \(?(?:target-group|elb)\b|not healthy in \(?target-group",
    ),
    (Category::HealthCheckContainer, r"failed container health checks"),
    (
        Category::Capacity,
        r"\bRESOURCE:(?:FARGATE|CPU|MEMORY|ENI|PORTS|GPU)|\binsufficient (?:CPU|memory|GPU)\b|\bnot have enough (?:CPU|memory)\b|No Container Instances were found|Capacity is unavailable|EMPTY CAPACITY PROVIDER|provisioning capacity limit|already using a port",
    ),
    (Category::Quota, r"reached the limit on the number of (?:tasks|vCPUs)|configuration is above your limit"),
    (
        Category::Eni,
        r"not have enough (?:free )?(?:IP )?addresses|InsufficientFreeAddresses|Unexpected EC2 error while attempting to Create Network Interface|Timeout waiting for network interface provisioning|unused device index|Network interface provision",
    ),
    (
        Category::AwsInternal,
        r"Timeout waiting for EphemeralStorage provisioning|(?:^|Reason: |\(error )Internal ?Error\b",
    ),
    (
        Category::Agent,
        r#"^(?:\w+: )?AGENT\.?$|error "AGENT"|(?:^|[^\w-])agent\b.*\bdisconnected\b|Amazon ECS Agent to start"#,
    ),
    (
        Category::PlacementConfig,
        r#"^(?:\w+: )?ATTRIBUTE\.?$|error "ATTRIBUTE"|missing (?:an? |the )?(?:required )?attribute\b|placement constraint|not compatible with the selected compute"#,
    ),
    // Last of the placement texts: "no container instance met all of its requirements" goes on to say which one.
    (Category::Capacity, r"no container instance met"),
    (
        Category::Volume,
        r"\bCannotCreateVolume|failed to invoke EFS utils|\bResourceInitializationError\b.*(?:\bEFS\b|\bmount(?:s|ed|ing)?\b)",
    ),
    (
        Category::StartCommand,
        r"\bCannotStartContainerError\b|\bCannotCreateContainerError\b|executable file not found|\bOCI runtime\b|\bpermission denied\b",
    ),
    (Category::RuntimeTimeout, r"\bContainerRuntimeTimeoutError\b|\bDockerTimeoutError\b|Could not transition to\b"),
    (Category::Runtime, r"\bContainerRuntimeError\b|\bCannotInspectContainerError\b|\bCannotStopContainerError\b"),
    (
        Category::Dependency,
        r"\bTaskDependencyError\b|^dependency\b|\bcontainer(?:'s)? (?:ordering )?dependency\b|\bdependency (?:graph|container)\b|\bdependsOn\b",
    ),
    (Category::RoutineScaling, r"Scaling activity initiated by"),
    (
        Category::HostGone,
        r"Host EC2 \(instance .*\) (?:stopped|terminated)|deregistration forced|performing maintenance on the underlying",
    ),
    (Category::User, r"Task stopped by user"),
    (
        Category::Throttled,
        r"operations are being throttled|\bThrottlingException\b|\bTooManyRequestsException\b|\bRate exceeded\b",
    ),
    (Category::DeployConfig, r"\bminimumHealthyPercent\b|\bmaximumPercent\b"),
    (Category::TaskProtection, r"protected tasks are more than"),
    (Category::Deployment, r"circuit breaker: tasks? failed to start|deployment failed: tasks failed"),
    // Fargate cuts long messages: of some, only this prefix is left.
    (Category::ResourceInit, r"\bResourceInitializationError\b"),
];

/// [`RULES`] as one set. Bytes and ASCII classes keep it a DFA whatever characters the text holds.
static PHRASES: LazyLock<bytes::RegexSet> = LazyLock::new(|| {
    bytes::RegexSetBuilder::new(RULES.iter().map(|rule| rule.1))
        .case_insensitive(true)
        .multi_line(true)
        .unicode(false)
        .build()
        .expect("the patterns are constants; every test compiles them")
});

/// How much of one reason is read, in characters: several times the longest that ECS writes.
const REASON_CHARS: usize = 4_096;
/// How many reasons are read: the task's, and its containers', of which a task definition may have ten.
const REASONS: usize = 11;

/// The reasons, one a line, cut, with typographic apostrophes made plain.
fn examined_text(evidence: &Evidence<'_>) -> String {
    let reasons =
        evidence.reason.into_iter().chain(evidence.containers.iter().filter_map(|container| container.reason));
    let mut text = String::new();
    for reason in reasons.take(REASONS) {
        text.extend(reason.trim().chars().take(REASON_CHARS).map(|c| match c {
            '\u{2019}' => '\'',
            c if c.is_control() || c.is_whitespace() => ' ',
            c => c,
        }));
        text.push('\n');
    }
    text
}

/// The cause when ECS says no more than that an essential container exited, or that the task failed to start.
fn explain_exit(evidence: &Evidence<'_>, text: &str) -> Option<Cause> {
    let failed = failed_containers(evidence);
    let Some((_, code)) = failed.first() else {
        let exited = evidence.stop_code == Some("EssentialContainerExited")
            || text.starts_with("Essential container in task exited");
        let unexplained = evidence.stop_code == Some("TaskFailedToStart")
            && text.lines().all(|reason| matches!(reason.trim_end_matches('.'), "" | "Task failed to start"));
        let category = Category::NoExitCode;
        return (exited || unexplained).then(|| Cause { category, hint: category.advice().into() });
    };
    let category = match code {
        0 => Category::Completed,
        126 | 127 | 255 => Category::StartCommand,
        137 => Category::Sigkill,
        143 => Category::Sigterm,
        _ => Category::Crash,
    };
    let advice = match code {
        0 if evidence.group.is_some_and(|group| group.starts_with("service:")) => {
            "A service's task should not end by itself: see why its main process returned."
        }
        126 => "The command is not executable: check entryPoint and the file's mode in the image.",
        127 => "The command was not found in the image: check entryPoint, command and PATH.",
        255 => "The entrypoint or command failed: see its last log lines.",
        _ => category.advice(),
    };
    Some(Cause { category, hint: format!("{} {advice}", exits(&failed)) })
}

/// The containers that failed of their own, with their codes. When an essential container ends, ECS stops the others:
/// these leave 143, or 137 when they do not heed SIGTERM, or 0. So any other code comes before those; then 137, which
/// may have been a kill of its own.
fn failed_containers<'a>(evidence: &Evidence<'a>) -> Vec<(Container<'a>, i64)> {
    let rank = |code: i64| match code {
        137 => 1,
        0 => 2,
        143 => 3,
        _ => 0,
    };
    let exited = || evidence.containers.iter().filter_map(|container| Some((*container, container.exit_code?)));
    let first = exited().map(|(_, code)| rank(code)).min();
    exited().filter(|(_, code)| Some(rank(*code)) == first).collect()
}

/// "Container app exited with code 139 (SIGSEGV), worker with code 1."
fn exits(failed: &[(Container<'_>, i64)]) -> String {
    let mut sentence = String::new();
    for (index, (container, code)) in failed.iter().take(3).enumerate() {
        let name = fragment(container.name.unwrap_or("without a name"));
        let lead = if index == 0 { format!("Container {name} exited") } else { format!(", {name}") };
        let signal = signal(*code).map(|signal| format!(" ({signal})")).unwrap_or_default();
        sentence.push_str(&format!("{lead} with code {code}{signal}"));
    }
    sentence + "."
}

/// The signal behind an exit code: a runtime reports 128 + its number.
const fn signal(code: i64) -> Option<&'static str> {
    Some(match code {
        129 => "SIGHUP",
        130 => "SIGINT",
        131 => "SIGQUIT",
        132 => "SIGILL",
        134 => "SIGABRT",
        135 => "SIGBUS",
        136 => "SIGFPE",
        137 => "SIGKILL",
        139 => "SIGSEGV",
        141 => "SIGPIPE",
        143 => "SIGTERM",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
