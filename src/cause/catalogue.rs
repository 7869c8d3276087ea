//! The catalogue of causes, as data: each [`Category`] with its meaning and advice, and each [`Rule`] with its pattern and examples.
//!
//! The rules are ordered: of all that match a text the first counts. A rule for a specific cause comes before the rule for the class
//! of its error (`CannotStartContainerError` …), and both come before the rule for a symptom of something else. Each example
//! of a rule is a test, and `docs/causes.md` is made from this.

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

            /// The category of this name; `None` where only another version of the program has it.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|category| category.as_str() == name)
            }

            /// The name in logs and in what `render` prints: snake_case, stable.
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

            /// What to do when the text is not more specific. A sentence that begins with `EC2: `, `Fargate: `, `Service: ` or
            /// `Stand-alone: ` is for such tasks only.
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
        "The registry refuses the pull because there were too many."
        "Authenticate the pulls (Docker Hub: repositoryCredentials), or pull through an ECR cache."
    Disk "disk" "Disk full"
        "There is no space left for the image or the container."
        "EC2: clean up or grow the volume of the container instance. Fargate: raise ephemeralStorage (20 GiB by default)."
    Iam "iam" "IAM permission missing"
        "A role lacks a permission, or ECS may not assume it."
        "Check the role's policies. EC2: the instance role pulls images, the task execution role reads secrets and files. \
         Fargate: the task execution role pulls images, and reads secrets and files."
    SecretMissing "secret_missing" "Secret or parameter not found"
        "A secret or parameter that the task definition names does not exist."
        "Create it in the task's account and Region, or correct valueFrom in the task definition."
    SecretKeyMissing "secret_key_missing" "Key missing in secret"
        "The secret exists, but not the JSON key that the task definition asks for."
        "Add the JSON key that valueFrom names to the secret, or correct valueFrom in the task definition."
    LogConfig "log_config" "Log configuration broken"
        "The log driver or log router cannot work with what the task definition tells it."
        "Check logConfiguration, and that its destination exists and can be reached."
    EnvFile "env_file" "Environment file not read"
        "A file that environmentFiles names could not be read from S3."
        "Check that the object exists in the bucket, and its name in environmentFiles."
    Network "network" "Network unreachable"
        "The task could not reach a registry or a service of AWS."
        "Fargate: a public subnet needs assignPublicIp; a private one NAT, or endpoints (ecr.api, ecr.dkr, s3, logs, \
         secretsmanager, ssm) whose security group allows 443. EC2: check the same from the container instance, which pulls \
         the images."
    Tls "tls" "Certificate not trusted"
        "The other end of a TLS connection was reached, and its certificate or protocol was refused."
        "Install a certificate that clients trust. EC2: instead, its CA can be trusted on the container instance (/etc/docker/certs.d)."
    ImageMissing "image_missing" "Image not found"
        "The registry does not know the image, or the tag or digest."
        "Push it, or correct the image in the task definition."
    ImageAuth "image_auth" "Registry refused access"
        "The registry asks for a login, or refuses the one it got."
        "Check repositoryCredentials for a private registry, the pulling role and the repository policy for ECR."
    Architecture "architecture" "Image for another platform"
        "The image is built for another CPU or operating system than the one it was to run on."
        "Set runtimePlatform.cpuArchitecture to what the image is built for, or build it for several platforms."
    ImageCorrupt "image_corrupt" "Image cannot be unpacked"
        "The image was found, but its layers cannot be read or put together."
        "Rebuild and push it, with one kind of layer compression and without attestations (--provenance=false)."
    ImagePull "image_pull" "Image pull failed"
        "The image could not be pulled, for none of the reasons that have a name here."
        "Check the image's name, the permissions of the role that pulls it, and the route to the registry."
    HealthCheckLb "health_check_lb" "Load balancer health check failed"
        "The load balancer, or VPC Lattice, found the task unhealthy, and ECS stopped it."
        "Check path, port and security groups, that the app listens on 0.0.0.0, and that it starts within \
         healthCheckGracePeriodSeconds."
    HealthCheckContainer "health_check_container" "Container health check failed"
        "The health check that a container's definition holds failed, and ECS stopped the task."
        "The HEALTHCHECK command fails: try it inside the container, or raise startPeriod if the app starts slowly."
    Capacity "capacity" "No capacity to place the task"
        "No container instance, or no Fargate capacity, is free for the task."
        "Add or free container instances; on Fargate try other Availability Zones, or fall back to on-demand."
    PortInUse "port_in_use" "Host port in use"
        "Another container or process of the host has the port that the task wants."
        "Stop what holds the port, use a dynamic host port (hostPort 0), or place one such task an instance."
    Quota "quota" "Account quota reached"
        "The account may not run more of this."
        "Stop what is not needed, or request an increase in Service Quotas."
    AccountBlocked "account_blocked" "AWS account blocked"
        "AWS has blocked or suspended the account, so that it may start nothing."
        "Only AWS can lift it: contact AWS Support, and look at the account's e-mail and bills."
    Eni "eni" "Network interface not provisioned"
        "The task's network interface could not be created or attached."
        "Check the subnet's free IP addresses and the ENI limits; often another attempt succeeds."
    AwsInternal "aws_internal" "Internal error of AWS"
        "AWS failed, not the task."
        "Usually transient. If it lasts, check AWS Health and that the subnet's Availability Zone is supported."
    Agent "agent" "ECS agent disconnected"
        "The ECS agent of the container instance does not answer."
        "Restart the agent on the instance (systemctl restart ecs) and read /var/log/ecs/ecs-agent.log."
    PlacementConfig "placement_config" "No instance fits the task"
        "The task needs something that no container instance of the cluster has."
        "The task needs an attribute, constraint or launch type that no instance of the cluster offers."
    Volume "volume" "Volume not mounted"
        "A volume or a mount point of the task could not be set up."
        "Check the volumes and mountPoints of the task definition, and what they refer to."
    TaskConfig "task_config" "Task definition refused"
        "The container runtime or the agent refuses a setting of the task definition."
        "Correct the setting in the task definition, and register a new revision."
    StartCommand "start_command" "Command cannot be run"
        "The container's command or entry point does not exist, or is not executable."
        "Check entryPoint and command, that the file exists in the image, and that it is executable."
    ContainerStart "container_start" "Container failed to start"
        "The container could not be created or started, for none of the reasons that have a name here."
        "Look at the container's settings in the task definition. EC2: look at Docker on the container instance too."
    RuntimeTimeout "runtime_timeout" "Container runtime timed out"
        "The container runtime did not do in time what it was asked."
        "The host may be overloaded or its runtime stuck. EC2: check the instance's CPU, disk and Docker."
    Runtime "runtime" "Container runtime fault"
        "The container runtime, one of its hooks or the host under it failed; the image and the command are not at fault."
        "EC2: check Docker on the container instance, and replace it if this repeats. Fargate: if it repeats, ask AWS Support."
    Dependency "dependency" "Container dependency failed"
        "A container that another waits for (dependsOn) did not reach its condition."
        "Look at that container first; then at the condition and startTimeout of dependsOn."
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
        "AWS slows down the account's calls to an API."
        "Service: ECS tries again by itself. If it lasts, find who calls so often, or ask for a higher API quota."
    DeployConfig "deploy_config" "Deployment percentages too tight"
        "The deployment configuration lets ECS neither start nor stop a task."
        "minimumHealthyPercent and maximumPercent leave no room to start or stop a task: widen them."
    TaskProtection "task_protection" "Protected tasks block scale-in"
        "More tasks are protected from scale-in than the service should have."
        "More tasks are protected than desired: wait until they finish, or end their protection."
    Deployment "deployment" "Tasks failed to start"
        "ECS gave a deployment up; why its tasks failed is told elsewhere."
        "Only a symptom: the stopped tasks of this deployment tell the cause."
    ResourceInit "resource_init" "Task resources not set up"
        "What the task needs before its containers start could not be set up, for none of the reasons that have a name here."
        "Usual causes: the execution role lacks a permission, or there is no route to ECR, Secrets Manager, SSM or \
         CloudWatch Logs."
    Completed "completed" "Exited with 0"
        "The container ended by itself, without an error."
        "Nothing to do."
    Crash "crash" "Container crashed"
        "The container ended by itself, with an error's exit code."
        "See its last log lines."
    Sigkill "sigkill" "Killed (SIGKILL)"
        "The container was killed, and ECS does not say by whom."
        "ECS does not say it was for memory: check the memory graph, and whether it outran stopTimeout when asked to stop."
    Sigterm "sigterm" "Terminated (SIGTERM)"
        "The container was asked to stop, and did."
        "Normal when a task is stopped; if this one was not, find what sent the signal."
    NoExitCode "no_exit_code" "Never started, or host lost"
        "ECS gives neither a reason nor an exit code."
        "ECS gives no reason: the task never started, or its host was lost. EC2: look at the container instance."
    Unknown "unknown" "Reason not recognised"
        "ECS gives a reason that is not known here; the alert quotes it."
        "Read ECS's own words."
}

impl Category {
    /// Whether this is routine life rather than a problem. `Completed` is routine for a batch task only: for a task of a
    /// service (`group` is `service:…`) it is a fault, which the category alone does not tell.
    pub const fn is_routine(self) -> bool {
        matches!(self, Self::RoutineScaling | Self::User | Self::Completed)
    }

    /// Whether the next attempt may succeed although nobody changes anything.
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

    /// Whether it tells who stopped the task: then its containers only did as they were told.
    pub(super) const fn tells_who_stopped_it(self) -> bool {
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

    /// Whether it is about getting the image.
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

/// A phrase by which a cause is told.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) category: Category,
    /// Ignores case and stays on one line: `^` and `$` bound a reason.
    pub(super) pattern: &'static str,
    /// What to do, where this phrase tells more than its category does.
    advice: Option<&'static str>,
    /// In the words of ECS, Docker, containerd …: each must lead to this rule.
    #[cfg(test)]
    pub(super) examples: &'static [&'static str],
}

impl Rule {
    #[cfg_attr(not(test), expect(unused_variables, reason = "the tests and the page about causes take them"))]
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

    /// What to do; labelled as [`Category::advice`] is.
    pub(super) fn advice(&self) -> &'static str {
        self.advice.unwrap_or(self.category.advice())
    }

    /// Whether it gives advice of its own.
    pub(super) const fn has_advice(&self) -> bool {
        self.advice.is_some()
    }
}

/// All rules, the most telling first.
pub(super) static RULES: LazyLock<Vec<&'static Rule>> = LazyLock::new(|| {
    let themes = [stop::FIRST, resource::RULES, image::RULES, start::RULES, stop::SERVICE, start::CLASSES];
    themes.into_iter().flatten().collect()
});

/// [`RULES`] as one set. Bytes and ASCII classes keep it a DFA whatever characters the text holds.
static PHRASES: LazyLock<bytes::RegexSet> = LazyLock::new(|| {
    bytes::RegexSetBuilder::new(RULES.iter().map(|rule| rule.pattern))
        .case_insensitive(true)
        .multi_line(true)
        .unicode(false)
        .build()
        .expect("the patterns are constants; every test compiles them")
});

/// The place in [`RULES`] of the rule that tells most about the text.
pub(super) fn find(text: &str) -> Option<usize> {
    PHRASES.matches(text.as_bytes()).iter().next()
}
