//! The catalogue of causes, as data: each [`Category`] with its meaning and advice, and each [`Rule`] with its pattern and examples.
//!
//! The rules are ordered: if several match a text, the first one counts. A rule for a specific cause comes before the rule for the
//! class of its error (`CannotStartContainerError` …), and both come before the rule for a symptom of something else. Each example
//! of a rule is a test. `docs/causes.md` is made from this file.

mod image;
mod resource;
mod start;
mod stop;

use std::sync::LazyLock;

use regex::bytes;

/// Declares [`Category`] once, so that names, titles, meanings, advice and `ALL` cannot drift apart.
macro_rules! categories {
    ($($variant:ident $name:literal $title:literal $meaning:literal $advice:literal)*) => {
        /// Every cause there is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Category {
            $(#[doc = $meaning] $variant,)*
        }

        impl Category {
            /// Every category.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The category with this name; `None` for a name that this version of the program does not have.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|category| category.as_str() == name)
            }

            /// The name in logs and in the output of `render`: snake_case, stable.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// A few words for a phone's screen.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What happened, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do, where the text does not allow a more specific advice. A sentence that begins with `EC2: `, `Fargate: `,
            /// `Service: ` or `Stand-alone: ` is for such tasks only.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

categories! {
    Oom "oom" "Out of memory"
        "A container needed more memory than it may use, and was killed."
        "Raise the memory limit of the container or task, or fix the leak (JVM: -XX:MaxRAMPercentage)."
    Spot "spot" "Spot interruption"
        "AWS takes back the Spot capacity that the task runs on, two minutes after the warning."
        "Expected with Spot. Service: if the service stays short of tasks, add an on-demand base or more Availability Zones. \
         Stand-alone: run it on demand if it must not be interrupted."
    RegistryRateLimit "registry_rate_limit" "Registry rate limit"
        "The registry refused the pull, because it received too many pulls."
        "Authenticate the pulls (Docker Hub: repositoryCredentials), or use an ECR pull-through cache."
    Disk "disk" "Disk full"
        "There is no space left for the image or the container."
        "EC2: clean up or grow the volume of the container instance. Fargate: raise ephemeralStorage (20 GiB by default)."
    Iam "iam" "IAM permission missing"
        "A role lacks a permission, or ECS is not allowed to assume the role."
        "Check the role's policies. EC2: the instance role pulls images, the task execution role reads secrets and files. \
         Fargate: the task execution role pulls images, and reads secrets and files."
    SecretMissing "secret_missing" "Secret or parameter not found"
        "A secret or parameter that the task definition names does not exist."
        "Create it in the task's account and Region, or correct valueFrom in the task definition."
    SecretKeyMissing "secret_key_missing" "Key missing in secret"
        "The secret exists, but not the JSON key that the task definition asks for."
        "Add the JSON key that valueFrom names to the secret, or correct valueFrom in the task definition."
    LogConfig "log_config" "Log configuration broken"
        "The log driver or log router cannot use its configuration in the task definition."
        "Check logConfiguration, and that its destination exists and can be reached."
    EnvFile "env_file" "Environment file not read"
        "A file that environmentFiles names could not be read from S3."
        "Check that the object exists in the bucket, and that environmentFiles names it correctly."
    Network "network" "Network unreachable"
        "The task could not reach a registry or an AWS service."
        "Fargate: a public subnet needs assignPublicIp; a private subnet needs NAT, or VPC endpoints (ecr.api, ecr.dkr, s3, logs, \
         secretsmanager, ssm) whose security group allows TCP 443. EC2: check the routes and security groups of the container \
         instance, which pulls the images."
    Tls "tls" "Certificate not trusted"
        "The server was reached, but its TLS certificate or protocol version was refused."
        "Give the server a certificate that clients trust. EC2: or trust its CA on the container instance (/etc/docker/certs.d)."
    ImageMissing "image_missing" "Image not found"
        "The registry does not have the image, or not this tag or digest."
        "Push it, or correct the image in the task definition."
    ImageAuth "image_auth" "Registry refused access"
        "The registry requires a login, or refused the credentials."
        "For a private registry, check repositoryCredentials. For ECR, check the repository policy and the role that pulls the image."
    Architecture "architecture" "Image for another platform"
        "The image is built for another CPU or operating system than its host has."
        "Set runtimePlatform.cpuArchitecture to the CPU that the image is built for, or build the image for several platforms."
    ImageCorrupt "image_corrupt" "Image cannot be unpacked"
        "The image was found, but its layers cannot be read or unpacked."
        "Rebuild and push the image, with one kind of layer compression and without attestations (--provenance=false)."
    ImagePull "image_pull" "Image pull failed"
        "The image could not be pulled, for a reason that no other category covers."
        "Check the image's name, the permissions of the role that pulls it, and the route to the registry."
    HealthCheckLb "health_check_lb" "Load balancer health check failed"
        "The load balancer, or VPC Lattice, found the task unhealthy, and ECS stopped it."
        "Check the path and port of the health check, and the security groups. The app must listen on 0.0.0.0 and start within \
         healthCheckGracePeriodSeconds."
    HealthCheckContainer "health_check_container" "Container health check failed"
        "A container failed the health check of its container definition, and ECS stopped the task."
        "The HEALTHCHECK command fails: run it inside the container, or raise startPeriod if the app starts slowly."
    Capacity "capacity" "No capacity to place the task"
        "No container instance, or no Fargate capacity, is free for the task."
        "Add or free container instances. On Fargate, try other Availability Zones, or use on-demand instead of Spot."
    PortInUse "port_in_use" "Host port in use"
        "Another container or process on the host already uses the port that the task needs."
        "Stop the container or process that uses the port, use a dynamic host port (hostPort 0), or place only one such task on \
         each instance."
    Quota "quota" "Account quota reached"
        "The account reached a limit, such as the number of tasks or vCPUs that may run at once."
        "Stop tasks that are not needed, or request an increase in Service Quotas."
    AccountBlocked "account_blocked" "AWS account blocked"
        "AWS has blocked or suspended the account, so no task can start in it."
        "Only AWS can unblock the account: contact AWS Support, and check the account's e-mail and bills."
    Eni "eni" "Network interface not provisioned"
        "The task's network interface could not be created or attached."
        "Check the subnet's free IP addresses and the ENI limits. Often another attempt succeeds."
    AwsInternal "aws_internal" "Internal error of AWS"
        "An AWS service failed, not the task."
        "Usually transient. If it lasts, check AWS Health, and whether the subnet's Availability Zone is supported."
    Agent "agent" "ECS agent disconnected"
        "The ECS agent of the container instance does not answer."
        "Restart the agent on the instance (systemctl restart ecs) and read /var/log/ecs/ecs-agent.log."
    PlacementConfig "placement_config" "No instance fits the task"
        "No container instance of the cluster has the attributes or launch type that the task needs, or satisfies its placement \
         constraints."
        "Compare the required attributes, placement constraints and launch type of the task with the cluster's instances. Change \
         the task, or add instances that fit."
    Volume "volume" "Volume not mounted"
        "A volume or a mount point of the task could not be set up."
        "Check the volumes and mountPoints of the task definition, and the paths and file systems that they name."
    TaskConfig "task_config" "Task definition refused"
        "The container runtime or the agent refuses a setting of the task definition."
        "Correct the setting in the task definition, and register a new revision."
    StartCommand "start_command" "Command cannot be run"
        "The container's command or entry point does not exist, or is not executable."
        "Check entryPoint and command, that the file exists in the image, and that it is executable."
    ContainerStart "container_start" "Container failed to start"
        "The container could not be created or started, for a reason that no other category covers."
        "Check the container's settings in the task definition. EC2: check the Docker daemon on the container instance too."
    RuntimeTimeout "runtime_timeout" "Container runtime timed out"
        "The container runtime did not complete a request in time."
        "The host may be overloaded, or its runtime may hang. EC2: check the instance's CPU, disk and Docker daemon."
    Runtime "runtime" "Container runtime fault"
        "The container runtime, one of its hooks or the host under it failed; the image and the command are not at fault."
        "EC2: check the Docker daemon on the container instance, and replace the instance if this repeats. Fargate: if this repeats, \
         ask AWS Support."
    Dependency "dependency" "Container dependency failed"
        "A container did not reach the condition that another container waits for (dependsOn)."
        "Check that container first, then the condition in dependsOn, and startTimeout."
    RoutineScaling "routine_scaling" "Routine scaling"
        "ECS scaled in or replaced the task."
        "ECS scaled in or replaced the task: nothing to do."
    HostGone "host_gone" "Host impaired or gone"
        "The host of the task was impaired, stopped, drained, deregistered or under maintenance."
        "Service: check that the service has all its tasks again. Stand-alone: run the task again."
    User "user" "Stopped by a user"
        "Somebody or something called StopTask."
        "Somebody or something called StopTask: nothing to do."
    Throttled "throttled" "AWS API throttled"
        "AWS limits the rate of the account's calls to an API."
        "Service: ECS tries again by itself. If it lasts, find out what calls the API so often, or request a higher API quota."
    DeployConfig "deploy_config" "Deployment percentages too tight"
        "The deployment configuration allows ECS neither to start nor to stop a task."
        "minimumHealthyPercent and maximumPercent leave no room to start or stop a task: lower the first or raise the second."
    TaskProtection "task_protection" "Protected tasks block scale-in"
        "More tasks are protected from scale-in than the service should have."
        "More tasks are protected than desired: wait until they finish, or remove their protection."
    Deployment "deployment" "Tasks failed to start"
        "ECS gave up a deployment because its tasks failed. This event does not say why they failed."
        "This is only a symptom: find the cause in the stopped tasks of this deployment."
    ResourceInit "resource_init" "Task resources not set up"
        "ECS could not set up something that the task needs before its containers start, for a reason that no other category covers."
        "Usual causes: the execution role lacks a permission, or there is no route to ECR, Secrets Manager, SSM or \
         CloudWatch Logs."
    Completed "completed" "Exited with 0"
        "The container ended by itself, without an error."
        "Nothing to do."
    Crash "crash" "Container crashed"
        "The container ended by itself, with an exit code that means an error."
        "See its last log lines."
    Sigkill "sigkill" "Killed (SIGKILL)"
        "The container was killed, and ECS does not say why."
        "ECS does not report that it ran out of memory, but check the memory graph. It may also have been asked to stop, and have \
         taken longer than stopTimeout."
    Sigterm "sigterm" "Terminated (SIGTERM)"
        "The container received SIGTERM and stopped."
        "This is normal when a task is stopped. If nobody stopped this task, find out what sent the signal."
    NoExitCode "no_exit_code" "Never started, or host lost"
        "ECS gives neither a reason nor an exit code."
        "ECS gives no reason: the task never started, or its host was lost. EC2: check the container instance."
    Unknown "unknown" "Reason not recognised"
        "ECS gives a reason that this program does not recognise. The alert quotes it."
        "Read the reason that ECS gives."
}

impl Category {
    /// Whether this is routine and not a problem. `Completed` is routine only for a batch task. For a task of a service (`group` is
    /// `service:…`) it is a fault, but the category does not distinguish the two.
    pub const fn is_routine(self) -> bool {
        matches!(self, Self::RoutineScaling | Self::User | Self::Completed)
    }

    /// Whether the next attempt may succeed although nobody changed anything.
    pub const fn may_heal(self) -> bool {
        matches!(
            self,
            Self::Eni
                | Self::Capacity
                | Self::RegistryRateLimit
                | Self::AwsInternal
                | Self::Throttled
                | Self::RuntimeTimeout
                | Self::Spot
        )
    }

    /// Whether the container instance is where to look.
    pub const fn is_of_host(self) -> bool {
        matches!(
            self,
            Self::Agent
                | Self::Disk
                | Self::Runtime
                | Self::RuntimeTimeout
                | Self::ContainerStart
                | Self::Volume
                | Self::PortInUse
                | Self::Architecture
                | Self::HostGone
                | Self::NoExitCode
        )
    }

    /// Whether it explains why ECS stopped the whole task. Then the containers exited only because ECS stopped them.
    pub(super) const fn explains_the_stop(self) -> bool {
        matches!(
            self,
            Self::Spot
                | Self::User
                | Self::RoutineScaling
                | Self::HostGone
                | Self::HealthCheckLb
                | Self::HealthCheckContainer
        )
    }

    /// Whether it is about finding, pulling or unpacking the image.
    pub(super) const fn is_of_image(self) -> bool {
        matches!(
            self,
            Self::RegistryRateLimit
                | Self::ImageMissing
                | Self::ImageAuth
                | Self::Architecture
                | Self::ImageCorrupt
                | Self::ImagePull
        )
    }
}

/// A pattern for ECS's texts, and the cause of the texts that match it.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) category: Category,
    /// A regular expression that ignores case. A text is one line, so `^` and `$` match its start and its end.
    pub(super) pattern: &'static str,
    /// What to do, where the pattern allows a more specific advice than the category's.
    advice: Option<&'static str>,
    /// Texts of ECS, Docker, containerd …: this must be the first rule that matches each of them.
    #[cfg(test)]
    pub(super) examples: &'static [&'static str],
}

impl Rule {
    #[cfg_attr(not(test), expect(unused_variables, reason = "the tests and the page about causes use them"))]
    const fn new(category: Category, pattern: &'static str, examples: &'static [&'static str]) -> Self {
        Self {
            category,
            pattern,
            advice: None,
            #[cfg(test)]
            examples,
        }
    }

    const fn advise(mut self, advice: &'static str) -> Self {
        self.advice = Some(advice);
        self
    }

    /// What to do, with the same labels as in [`Category::advice`].
    pub(super) fn advice(&self) -> &'static str {
        self.advice.unwrap_or(self.category.advice())
    }

    /// Whether it has an advice of its own, instead of the category's.
    pub(super) const fn has_advice(&self) -> bool {
        self.advice.is_some()
    }
}

/// All rules, the most specific first.
pub(super) static RULES: LazyLock<Vec<&'static Rule>> = LazyLock::new(|| {
    let themes = [stop::FIRST, resource::RULES, image::RULES, start::RULES, stop::SERVICE, start::CLASSES];
    themes.into_iter().flatten().collect()
});

/// The patterns of [`RULES`] as one set. It matches bytes with ASCII classes, so it is a fast DFA for any text.
static PATTERNS: LazyLock<bytes::RegexSet> = LazyLock::new(|| {
    bytes::RegexSetBuilder::new(RULES.iter().map(|rule| rule.pattern))
        .case_insensitive(true)
        .multi_line(true)
        .unicode(false)
        .build()
        .expect("the patterns are constants; every test compiles them")
});

/// The position in [`RULES`] of the first rule that matches the text.
pub(super) fn find(text: &str) -> Option<usize> {
    PATTERNS.matches(text.as_bytes()).iter().next()
}
