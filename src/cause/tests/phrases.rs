//! The causes and hints that the catalogue gives for single texts.

use super::*;
use crate::cause::catalogue::find;

/// Reasons as ECS writes them, the category each must get, and words that its hint must have.
#[rustfmt::skip]
const REASONS_SEEN: &[(&str, Category, &[&str])] = &[
    ("OutOfMemoryError: Container killed due to memory usage", Category::Oom, &["memory limit"]),
    ("OutOfMemoryError: container exceeded its hard limit", Category::Oom, &[]),

    ("Your Spot Task was interrupted.", Category::Spot, &["Spot"]),
    ("SpotInterruption: the capacity was reclaimed", Category::Spot, &[]),

    ("CannotPullContainerError: inspect image has been retried 5 time(s): httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/nginx/manifests/sha256:abc: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit.", Category::RegistryRateLimit, &["Docker Hub"]),
    ("ERROR: toomanyrequests: Too Many Requests.", Category::RegistryRateLimit, &[]),
    ("CannotPullContainerError: Error response from daemon: toomanyrequests: Rate exceeded", Category::RegistryRateLimit, &[]),

    ("CannotPullContainerError: write /var/lib/docker/tmp/GetImageBlob111111111: no space left on device", Category::Disk, &["ephemeralStorage"]),
    ("CannotPullContainerError: failed to register layer: Error processing tar file(exit status 1): write /usr/lib/x.so: no space left on device", Category::Disk, &[]),

    ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret arn:aws:secretsmanager:eu-west-1:111122223333:secret:shop/db-AbCdEf from secrets manager: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/shopExecutionRole/0f0f0150a4248daa1bcbd68812101003 is not authorized to perform: secretsmanager:GetSecretValue on resource: arn:aws:secretsmanager:eu-west-1:111122223333:secret:shop/db-AbCdEf because no identity-based policy allows the secretsmanager:GetSecretValue action status code: 400, request id: 3f", Category::Iam,
        &["shopExecutionRole", "secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:shop/db-AbCdEf"]),
    ("CannotPullContainerError: The task can\u{2019}t pull the image. Check that the role has the permissions to pull images from the registry. Error response from daemon: pull access denied for 111122223333.dkr.ecr.us-east-1.amazonaws.com/shop, repository does not exist or may require 'docker login': denied: User: arn:aws:sts::111122223333:assumed-role/ecsInstanceRole/i-0123456789abcdef0 is not authorized to perform: ecr:BatchGetImage on resource: arn:aws:ecr:us-east-1:111122223333:repository/shop because no resource-based policy allows the ecr:BatchGetImage action", Category::Iam,
        &["ecsInstanceRole", "ecr:BatchGetImage", "repository/shop", "resource-based policy"]),
    ("ResourceInitializationError: unable to pull secrets or registry auth: AccessDeniedException: User: arn:aws-cn:sts::111122223333:assumed-role/exec/0f0f is not authorized to perform: ecr:GetAuthorizationToken on resource: * with an explicit deny in a service control policy", Category::Iam,
        &["exec", "ecr:GetAuthorizationToken on *", "service control policy denies it explicitly"]),
    ("ECS was unable to assume the role 'arn:aws:iam::111122223333:role/taskRole' that was provided for this task. Please verify that the role being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass this role.", Category::Iam, &["cannot assume the role taskRole", "trust policy"]),
    ("(service shop) failed: Unable to assume the service linked role. Please verify that the ECS service linked role exists.", Category::Iam, &["cannot assume a role"]),
    ("The task can't pull the image. Check that the role has the permissions to pull images from the registry.", Category::Iam, &["execution role", "instance role"]),
    ("ResourceInitializationError: unable to pull secrets: AccessDeniedException: denied because no identity-based policy allows the ssm:GetParameters action", Category::Iam, &["ssm:GetParameters", "execution role"]),
    ("CannotPullContainerError: UnrecognizedClientException: The security token included in the request is invalid.", Category::Iam, &[]),

    ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 5 time(s): ResourceNotFoundException: Secrets Manager can't find the specified secret.", Category::SecretMissing, &["Region"]),
    ("ResourceInitializationError: The task can\u{2019}t retrieve the secret with ARN 'arn:aws:secretsmanager:us-west-2:111122223333:secret:prod/db-a1b2c3' from AWS Secrets Manager. Check whether the secret exists in the specified Region. ResourceNotFoundException: Secrets Manager can\u{2019}t find the specified secret.", Category::SecretMissing, &["prod/db-a1b2c3 was not found"]),
    ("ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve secret from asm: failed to fetch secret arn:aws:secretsmanager:us-west-2:111122223333:secret:prod/db-a1b2c3 from secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified secret value for staging label: AWSCURRENT", Category::SecretMissing, &["prod/db-a1b2c3 has no value"]),
    ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secrets from ssm: service call has been retried 1 time(s): invalid ssm parameters: /shop/DB_URL", Category::SecretMissing, &["/shop/DB_URL was not found"]),
    ("Fetching secret data from SSM Parameter Store in eu-west-1: ParameterNotFound: arn:aws:ssm:eu-west-1:111122223333:parameter/shop/key", Category::SecretMissing, &["/shop/key"]),

    ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): retrieved secret from Secrets Manager did not contain json key password", Category::SecretKeyMissing, &["no key password"]),
    ("ResourceInitializationError: secret arn:aws:secretsmanager:us-west-2:111122223333:secret:prod/db-a1b2c3: specific key api_token not found in the secret", Category::SecretKeyMissing, &["prod/db-a1b2c3 has no key api_token"]),

    ("ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. : exit status 1", Category::LogConfig, &["awslogs-create-group"]),
    ("CannotStartContainerError: Error response from daemon: failed to initialize logging driver: failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. log group: /ecs/shop", Category::LogConfig, &["/ecs/shop"]),
    ("CannotStartContainerError: Error response from daemon: failed to initialize logging driver: dial tcp 127.0.0.1:24224: connect: connection refused", Category::LogConfig, &["logConfiguration"]),

    ("ResourceInitializationError: unable to pull secrets or registry auth: The task cannot pull registry auth from Amazon ECR: There is a connection issue between the task and Amazon ECR. Check your task network configuration. operation error ECR: GetAuthorizationToken, exceeded maximum number of attempts, 3, https response error StatusCode: 0, RequestID: , request send failed, Post \"https://api.ecr.eu-central-1.amazonaws.com/\": dial tcp 3.122.128.199:443: i/o timeout", Category::Network, &["could not reach Amazon ECR", "assignPublicIp", "ecr.dkr"]),
    ("ResourceInitializationError: failed to validate logger args: The task cannot find the Amazon CloudWatch log group defined in the task definition. There is a connection issue between the task and Amazon CloudWatch. Check your network configuration. : signal: killed", Category::Network, &["Amazon CloudWatch", "logs"]),
    ("ResourceInitializationError: failed to validate logger args: signal: killed", Category::Network, &[]),
    ("ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: RequestError: send request failed\ncaused by: Post \"https://logs.eu-west-1.amazonaws.com/\": dial tcp 10.0.0.1:443: i/o timeout : exit status 1", Category::Network, &["logs.eu-west-1.amazonaws.com"]),
    ("ResourceInitializationError: The task cannot pull secrets from AWS Systems Manager Parameter Store. Check your network connection between the task and AWS Systems Manager.", Category::Network, &["AWS Systems Manager"]),
    ("CannotPullContainerError: API error (500): Get https://111122223333.dkr.ecr.us-east-1.amazonaws.com/v2/: net/http: request canceled while waiting for connection", Category::Network, &["111122223333.dkr.ecr.us-east-1.amazonaws.com"]),
    ("CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref docker.io/library/nginx:latest: failed to do request: Head \"https://registry-1.docker.io/v2/library/nginx/manifests/latest\": dial tcp 54.236.113.205:443: i/o timeout", Category::Network, &["registry-1.docker.io"]),
    ("CannotPullContainerError: ref pull has been retried 1 time(s): failed to copy: context canceled", Category::Network, &[]),
    ("CannotPullContainerError: failed to do request: dial tcp: lookup registry.internal on 10.0.0.2:53: no such host", Category::Network, &["registry.internal did not resolve"]),
    ("ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: command failed: unable to complete within time: signal: killed : unsuccessful EFS utils command execution; code: 1", Category::Volume, &["2049"]),
    ("ResourceInitializationError: unable to retrieve secret from asm: service call has been retried 5 time(s): RequestCanceled: request context canceled caused by: context deadline exceeded", Category::Network, &[]),

    ("CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref 111122223333.dkr.ecr.eu-central-1.amazonaws.com/example-api:nope: 111122223333.dkr.ecr.eu-central-1.amazonaws.com/example-api:nope: not found", Category::ImageMissing, &["111122223333.dkr.ecr.eu-central-1.amazonaws.com/example-api:nope is not in the registry"]),
    ("CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref 111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop@sha256:74b2c688: 111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop@sha256:74b2c688: not found", Category::ImageMissing, &["shop@sha256:74b2c688", "force a new deployment"]),
    ("CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref 111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop:v1", Category::ImageMissing, &["shop:v1 was not found, or its registry could not be reached"]),
    ("CannotPullContainerError: Error response from daemon: manifest for 111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:v2 not found: manifest unknown: Requested image not found", Category::ImageMissing, &["amazonaws.com/shop:v2 is not in the registry"]),
    ("CannotPullContainerError: The task can\u{2019}t pull the image. Check whether the image exists. Error response from daemon: pull access denied for shop/api, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", Category::ImageMissing, &["shop/api does not exist, or needs a login"]),
    ("CannotPullContainerError: API error (404): repository 111122223333.dkr.ecr.us-east-1.amazonaws.com/shop/api not found", Category::ImageMissing, &["111122223333.dkr.ecr.us-east-1.amazonaws.com/shop/api"]),
    ("CannotPullContainerError: Error response from daemon: name unknown: The repository with name 'shop' does not exist in the registry with id '111122223333'", Category::ImageMissing, &["shop"]),
    ("CannotPullContainerError: invalid reference format", Category::ImageMissing, &["malformed"]),

    ("CannotPullContainerError: Error response from daemon: Head https://111122223333.dkr.ecr.us-east-1.amazonaws.com/v2/shop/manifests/latest: no basic auth credentials", Category::ImageAuth, &["repositoryCredentials"]),
    ("CannotPullContainerError: Error response from daemon: pull access denied for shop/api, repository does not exist or may require 'docker login': denied: Your authorization token has expired. Reauthenticate and try again.", Category::ImageAuth, &["shop/api"]),
    ("CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref ghcr.io/shop/api:v1: failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized", Category::ImageAuth, &["ghcr.io/shop/api:v1"]),

    ("CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'", Category::Architecture, &["linux/amd64", "runtimePlatform"]),
    ("CannotPullContainerError: pull image manifest has been retried 7 time(s): failed to resolve ref ghcr.io/shop/api:v1: image Manifest does not contain descriptor matching platform 'linux/arm64'", Category::Architecture, &["ghcr.io/shop/api:v1"]),
    ("exec /usr/local/bin/app: exec format error", Category::Architecture, &[]),
    ("CannotPullContainerError: no matching manifest for linux/arm64/v8 in the manifest list entries", Category::Architecture, &[]),

    ("CannotPullContainerError: ref pull has been retried 1 time(s): failed to unpack image on snapshotter overlayfs: unexpected media type text/html for sha256:abc: not found", Category::ImageCorrupt, &["Rebuild"]),
    ("CannotPullContainerError: failed to extract layer sha256:abc: wrong diff id calculated", Category::ImageCorrupt, &[]),
    ("CannotPullContainerError: image config diffIDs don\u{2019}t match the layers", Category::ImageCorrupt, &[]),

    ("CannotPullContainerError: ref pull has been retried 1 time(s): failed to copy: httpReaderSeeker: failed open: unexpected status code", Category::ImagePull, &["the route to the registry"]),
    ("CannotPullContainerError", Category::ImagePull, &[]),
    ("CannotPullECRContainerError: AWS failed", Category::ImagePull, &[]),
    ("CannotPullContainerError: ThrottlingException: Rate exceeded", Category::Throttled, &[]),

    ("Task failed to pass VPC Lattice target health checks", Category::HealthCheckLb, &[]),
    ("Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/shop-tg/6d0ecf831eec9f09)", Category::HealthCheckLb, &["shop-tg", "healthCheckGracePeriodSeconds"]),
    ("(service shop) (port 8080) is unhealthy in (target-group arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/shop-tg/6d0ecf831eec9f09) due to (reason Health checks failed with these codes: [502])", Category::HealthCheckLb, &["shop-tg: Health checks failed with these codes: [502]."]),
    ("(service shop) (instance i-0123456789abcdef0) is unhealthy in (elb shop-elb) due to (reason Instance has failed at least the UnhealthyThreshold number of health checks consecutively.)", Category::HealthCheckLb, &["shop-elb", "UnhealthyThreshold"]),

    ("Task failed container health checks", Category::HealthCheckContainer, &["startPeriod"]),

    ("RESOURCE:CPU", Category::Capacity, &["CPU"]),
    ("RESOURCE:MEMORY", Category::Capacity, &["MEMORY"]),
    ("RESOURCE:FARGATE", Category::Capacity, &["FARGATE"]),
    ("RESOURCE:PORTS_TCP", Category::Capacity, &["PORTS_TCP"]),
    ("(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching (container-instance 05016874) has insufficient CPU units available.", Category::Capacity, &["CPU"]),
    ("(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching container-instance is already using a port required by your task.", Category::Capacity, &["a port"]),
    ("(service shop) was unable to place a task because no container instance met all of its requirements. Reason: No Container Instances were found in your cluster.", Category::Capacity, &["Container Instances"]),
    ("(service shop) is unable to place a task in eu-west-1a because no container instance met all of its requirements.", Category::Capacity, &[]),
    ("Capacity is unavailable at this time. Please try again later or in a different availability zone", Category::Capacity, &["other Availability Zones"]),
    ("TaskFailedToStart: EMPTY CAPACITY PROVIDER", Category::Capacity, &[]),

    ("(service shop) was unable to place a task. Reason: You\u{2019}ve reached the limit on the number of vCPUs you can run concurrently", Category::Quota, &["vCPUs", "Service Quotas"]),
    ("(service shop) was unable to place a task. Reason: You've reached the limit on the number of tasks you can run concurrently", Category::Quota, &["tasks"]),
    ("(service shop) was unable to place a task. Reason: The requested MEMORY configuration is above your limit.", Category::Quota, &["MEMORY"]),

    ("Unexpected EC2 error while attempting to Create Network Interface with public IP assignment enabled in subnet 'subnet-0123456789abcdef0': InsufficientFreeAddressesInSubnet", Category::Eni, &["subnet-0123456789abcdef0"]),
    ("Timeout waiting for network interface provisioning to complete.", Category::Eni, &["another attempt"]),
    ("The subnet 'subnet-0abc' does not have enough free addresses to satisfy the request.", Category::Eni, &["subnet-0abc"]),

    ("Timeout waiting for EphemeralStorage provisioning to complete.", Category::AwsInternal, &["transient"]),
    ("InternalError: Unable to complete the operation", Category::AwsInternal, &[]),
    ("(service shop) was unable to place a task. Reason: Internal error.", Category::AwsInternal, &["Availability Zone"]),

    ("AGENT", Category::Agent, &["ecs-agent.log"]),
    ("(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching container-instance 05016874 encountered error \"AGENT\".", Category::Agent, &[]),
    ("Agent disconnected since 2026-07-29T22:34:13Z", Category::Agent, &[]),
    ("Timed out waiting for the Amazon ECS Agent to start", Category::Agent, &[]),

    ("ATTRIBUTE", Category::PlacementConfig, &["attribute"]),
    ("(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching container-instance 05016874 is missing an attribute required by your task.", Category::PlacementConfig, &[]),
    ("(service shop) was unable to place a task because no container instance met all of its requirements. The closest matching (container-instance 05016874) encountered error \"MemberOf placement constraint unsatisfied.\"", Category::PlacementConfig, &[]),

    ("ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: Failed to resolve \"fs-0123456789abcdef0.efs.us-east-1.amazonaws.com\" - check that your file system ID is correct", Category::Volume, &["fs-0123456789abcdef0", "does not resolve"]),
    ("ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: b'mount.nfs4: access denied by server while mounting 127.0.0.1:/' : unsuccessful EFS utils command execution; code: 32", Category::Volume, &["denied access", "access point"]),
    ("CannotCreateVolumeError: driver failed to create the volume", Category::Volume, &[]),

    ("CannotStartContainerError: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/app/start.sh\": permission denied: unknown", Category::StartCommand, &["/app/start.sh"]),
    ("CannotStartContainerError: Error response from daemon: OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \"serve\": executable file not found in $PATH: unknown", Category::StartCommand, &["serve"]),
    ("CannotCreateContainerError: Error response from daemon: Minimum memory limit allowed is 6MB", Category::TaskConfig, &["task definition"]),
    ("CannotStartContainerError: Error response from daemon: OCI runtime create failed: process_linux.go: container init caused: signal: killed: unknown", Category::Oom, &["memory"]),

    ("DockerTimeoutError: Could not transition to started; timed out after waiting 3m0s", Category::RuntimeTimeout, &["overloaded"]),
    ("ContainerRuntimeTimeoutError: Could not transition to running; timed out after waiting 1m: <reason>", Category::RuntimeTimeout, &[]),
    ("CannotInspectContainerError: Could not transition to inspecting; timed out after waiting 30s", Category::RuntimeTimeout, &[]),
    ("CannotStartContainerError: context deadline exceeded", Category::RuntimeTimeout, &[]),

    ("ContainerRuntimeError: the runtime failed", Category::Runtime, &[]),
    ("CannotStopContainerError: failed sending SIGTERM to container: <reason>", Category::Runtime, &[]),
    ("CannotInspectContainerError: API error (500)", Category::Runtime, &[]),

    ("TaskDependencyError: dependency graph: container ordering dependency [migrate] failed", Category::Dependency, &["dependsOn"]),
    ("dependency container migrate did not reach SUCCESS", Category::Dependency, &[]),

    ("Scaling activity initiated by (deployment ecs-svc/9223370536640198428)", Category::RoutineScaling, &["nothing to do"]),

    ("Host EC2 (instance i-0123456789abcdef0) terminated.", Category::HostGone, &["i-0123456789abcdef0"]),
    ("Host EC2 (instance i-0123456789abcdef0) stopped.", Category::HostGone, &[]),
    ("Task stopped because of container instance deregistration forced by user", Category::HostGone, &[]),
    ("ECS is performing maintenance on the underlying infrastructure hosting the task", Category::HostGone, &[]),

    ("Task stopped by user", Category::User, &["StopTask"]),

    ("(service shop) operations are being throttled on elb. Will try again later.", Category::Throttled, &["elb"]),
    ("ThrottlingException: Rate exceeded", Category::Throttled, &[]),
    ("TooManyRequestsException: slow down", Category::Throttled, &[]),

    ("(service shop) was unable to stop or start tasks during a deployment because of the service deployment configuration. Update the minimumHealthyPercent or maximumPercent value and try again.", Category::DeployConfig, &["minimumHealthyPercent"]),

    ("(service shop) was unable to scale in because the number of protected tasks are more than the desired count of tasks", Category::TaskProtection, &["protection"]),

    ("ECS deployment circuit breaker: task failed to start.", Category::Deployment, &["stopped tasks"]),
    ("ECS deployment circuit breaker: tasks failed to start.", Category::Deployment, &[]),
    ("(service shop) (deployment ecs-svc/123) deployment failed: tasks failed to start.", Category::Deployment, &[]),
    ("ECS deployment circuit breaker: task failed to start.", Category::Deployment, &[]),

    ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been re", Category::ResourceInit, &["Usual causes"]),
    ("ResourceInitializationError", Category::ResourceInit, &[]),
];

/// Texts that resemble those of a rule, but must not match it.
const NEAR_MISSES: &[(&str, Option<Category>)] = &[
    ("Stopped: the attribute service moves to the new cluster", None),
    ("Threshold Crossed: the amount of errors was greater than the threshold (50.0)", None),
    ("ResourceInitializationError: the amount of retries was exhausted", Some(Category::ResourceInit)),
    ("Stopped before we mount the new EFS volume", None),
    ("upgrading a dependency of the shop", None),
    ("ECS deployment ecs-svc/123 completed.", None),
    ("(service shop) has reached a steady state.", None),
    ("/bin/sh: 1: serve: not found", None),
    ("CannotStartContainerError: /bin/sh: serve: not found", Some(Category::ContainerStart)),
    ("the user-agent of a client that disconnected", None),
    ("stopped by the AGENT team", None),
    ("the shop answered 500 Internal Error", None),
    ("the team does not have enough reviewers", None),
    ("the room was not have enough memory left", Some(Category::Capacity)),
    ("the resource:budget tag is missing", None),
    ("MyOutOfMemoryErrorHandler was renamed", None),
    ("the scale-in protection of 3 tasks ended", None),
    ("Essential container in task", None),
];

#[test]
fn each_example_matches_its_rule_first() {
    for (place, rule) in RULES.iter().enumerate() {
        assert!(!rule.examples.is_empty(), "{}: {:?} has no example", rule.category.as_str(), rule.pattern);
        for example in rule.examples {
            let found = find(&cleaned(example)).and_then(|found| Some((found, RULES.get(found)?.category.as_str())));
            assert_eq!(found, Some((place, rule.category.as_str())), "{example}");
        }
    }
}

#[test]
fn each_reason_of_ecs_has_its_cause_and_a_hint_with_its_names() {
    for (reason, expected, named) in REASONS_SEEN {
        let cause = cause(&because(reason));
        assert_eq!(cause.category, *expected, "{reason}");
        for part in *named {
            assert!(cause.hint.contains(part), "the hint of {reason:?} lacks {part:?}: {}", cause.hint);
        }
        let sentences = cause.hint.matches(". ").count() + 1;
        assert!(cause.hint.ends_with('.') && sentences <= 4, "{}", cause.hint);
    }
}

#[test]
fn a_text_that_only_resembles_a_rule_does_not_match_it() {
    for (reason, expected) in NEAR_MISSES {
        assert_eq!(category(&because(reason)), *expected, "{reason}");
    }
}

/// Pairs of texts that share words, but have different categories.
#[rustfmt::skip]
const CONFUSABLE: &[(&str, Category, &str, Category)] = &[
    ("CannotPullContainerError: denied: User: arn:aws:sts::1:assumed-role/r/x is not authorized to perform: ecr:BatchGetImage on resource: x, repository does not exist or may require 'docker login'", Category::Iam,
     "CannotPullContainerError: pull access denied for shop, repository does not exist or may require 'docker login'", Category::ImageMissing),
    ("CannotPullContainerError: write /var/lib/docker/tmp/x: no space left on device", Category::Disk,
     "CannotStartContainerError: mkdir /sys/fs/cgroup/memory/ecs/x: no space left on device, cgroup", Category::Runtime),
    ("CannotStartContainerError: exec: \"/app/start.sh\": permission denied: unknown", Category::StartCommand,
     "CannotStartContainerError: error mounting \"/data\" to rootfs at \"/data\": permission denied: unknown", Category::Volume),
    ("CannotStartContainerError: exec: \"/app/run\": stat /app/run: no such file or directory: unknown", Category::StartCommand,
     "CannotStartContainerError: invalid mount config for type \"bind\": stat /app/run: no such file or directory", Category::Volume),
    ("CannotStartContainerError: open /run/user: permission denied", Category::ContainerStart,
     "failed to invoke EFS utils commands: mount.nfs4: Permission denied", Category::Volume),
    ("CannotStartContainerError: container init was OOM-killed (memory limit too low?)", Category::Oom,
     "CannotStartContainerError: unable to start init: fork/exec /proc/self/exe: cannot allocate memory", Category::Runtime),
    ("ResourceInitializationError: failed to validate logger args: signal: killed", Category::Network,
     "CannotStartContainerError: process_linux.go: container init caused: signal: killed: unknown", Category::Oom),
    ("CannotStartContainerError: context deadline exceeded", Category::RuntimeTimeout,
     "CannotPullContainerError: context deadline exceeded", Category::Network),
    ("ResourceInitializationError: failed to validate logger args: The specified log group does not exist.", Category::LogConfig,
     "ResourceInitializationError: failed to validate logger args: dial tcp 10.0.0.1:443: i/o timeout", Category::Network),
    ("unable to download firelens s3 config file: unable to download s3 config a from bucket b: AccessDenied", Category::Iam,
     "unable to download firelens s3 config file: unable to download s3 config a from bucket b: NoSuchKey", Category::LogConfig),
    ("failed to download env files: AccessDenied: Access Denied", Category::Iam,
     "failed to download env files: RequestCanceled: request context canceled caused by: context deadline exceeded", Category::Network),
    ("unable to retrieve secret from asm: did not contain json key a", Category::SecretKeyMissing,
     "unable to retrieve secret from asm: ResourceNotFoundException: Secrets Manager can't find the specified secret.", Category::SecretMissing),
    ("unable to retrieve secret from asm: invalid character 'p' looking for beginning of value", Category::SecretKeyMissing,
     "asm fetching authorization data: unable to unmarshal secret value, invalid schema", Category::ImageAuth),
    ("CannotPullContainerError: Get \"https://r.example/v2/\": x509: certificate signed by unknown authority", Category::Tls,
     "CannotPullContainerError: Get \"https://r.example/v2/\": net/http: TLS handshake timeout", Category::Network),
    ("CannotPullContainerError: received unexpected HTTP status: 503 Service Unavailable", Category::ImagePull,
     "CannotPullContainerError: API error (500): manifest unknown", Category::ImageMissing),
    ("CannotPullContainerError: 429 Too Many Requests", Category::RegistryRateLimit,
     "CannotPullContainerError: ThrottlingException: Rate exceeded", Category::Throttled),
    ("CannotPullContainerError: no matching manifest for linux/arm64/v8 in the manifest list entries", Category::Architecture,
     "CannotPullContainerError: manifest for r.example/shop:1 not found: manifest unknown", Category::ImageMissing),
    ("exec /usr/local/bin/app: exec format error", Category::Architecture,
     "exec /usr/local/bin/app: no such file or directory", Category::StartCommand),
    ("CannotPullContainerError: failed to resolve ref nvcr.io/nvidia/cuda:12", Category::ImageMissing,
     "CannotStartContainerError: nvidia-container-cli: initialization error", Category::Runtime),
    ("CannotPullContainerError: something new about nvcr.io/nvidia/cuda:12", Category::ImagePull,
     "CannotStartContainerError: could not select device driver \"nvidia\" with capabilities: [[gpu]]", Category::Runtime),
    ("CannotStartContainerError: Bind for 0.0.0.0:80 failed: port is already allocated", Category::PortInUse,
     "(service s) was unable to place a task. The closest matching instance is already using a port required by your task.", Category::Capacity),
    ("CannotStartContainerError: driver failed programming external connectivity: iptables failed", Category::Runtime,
     "CannotStartContainerError: driver failed programming external connectivity: listen tcp4 0.0.0.0:80: bind: address already in use", Category::PortInUse),
    ("Task failed ELB health checks in (elb web) due to (reason Request timed out: i/o timeout)", Category::HealthCheckLb,
     "CannotPullContainerError: dial tcp 10.0.0.1:443: i/o timeout", Category::Network),
    ("Task failed container health checks", Category::HealthCheckContainer, "Task failed ELB health checks in (elb web)", Category::HealthCheckLb),
    ("Host EC2 (instance i-1) terminated.", Category::HostGone, "Your Spot Task was interrupted.", Category::Spot),
    ("The subnet 'subnet-0a' does not have enough free addresses", Category::Eni, "does not have enough memory", Category::Capacity),
    ("You've reached the limit on the number of tasks you can run concurrently", Category::Quota, "your account is currently blocked", Category::AccountBlocked),
    ("ECS deployment circuit breaker: tasks failed to start.", Category::Deployment, "CannotStartContainerError", Category::ContainerStart),
    ("mount.nfs4: mounting fs-0a:/x failed, reason given by server: No such file or directory", Category::Volume,
     "CannotCreateContainerError: No such image: x", Category::ImageMissing),
    ("CannotCreateContainerError: Minimum memory limit allowed is 6MB", Category::TaskConfig, "OutOfMemoryError: killed", Category::Oom),
    ("dependency graph: container ordering dependency [a] for target [b] has timed out.", Category::Dependency,
     "DockerTimeoutError: Could not transition to created; timed out after waiting 4m0s", Category::RuntimeTimeout),
    ("ResourceInitializationError: StatusCode: 500, InternalServerException", Category::AwsInternal,
     "ResourceInitializationError: StatusCode: 400, AccessDeniedException", Category::Iam),
];

#[test]
fn similar_texts_get_different_categories() {
    for (one, its, other, others) in CONFUSABLE {
        assert_ne!(its, others);
        assert_eq!((category(&because(one)), category(&because(other))), (Some(*its), Some(*others)), "{one}\n{other}");
    }
}

#[test]
fn the_hint_says_that_vpc_endpoints_do_not_reach_a_host_outside_aws() {
    let unreachable = |host: &str| {
        let reason = format!(
            "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref x: failed to do request: Head \"https://{host}/v2/x/manifests/latest\": dial tcp 44.205.64.79:443: i/o timeout"
        );
        cause(&because(&reason)).hint
    };
    for host in ["registry-1.docker.io", "quay.io", "registry.example.com"] {
        assert!(unreachable(host).contains(&format!("only to AWS's services, not to {host}")), "{}", unreachable(host));
    }
    for host in ["111122223333.dkr.ecr.eu-west-1.amazonaws.com", "api.ecr.cn-north-1.amazonaws.com.cn", "10.0.0.7:5000"]
    {
        assert!(!unreachable(host).contains("only to AWS's services"), "{}", unreachable(host));
    }
}

#[test]
fn each_answer_of_a_file_server_has_advice_of_its_own() {
    let efs = |said: &str| {
        let reason = format!(
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: {said} : unsuccessful EFS utils command execution; code: 32"
        );
        cause(&because(&reason)).hint
    };
    for (said, has, hasnot) in [
        ("mount.nfs4: access denied by server while mounting 127.0.0.1:/", "denied access", "2049"),
        (
            "mount.nfs4: mounting 127.0.0.1:/a failed, reason given by server: No such file or directory",
            "does not exist",
            "2049",
        ),
        ("Failed to resolve \"fs-0a.efs.eu-west-1.amazonaws.com\"", "does not resolve", "2049"),
        ("mount.nfs4: Connection timed out", "TCP 2049", "resolve"),
        ("mount.nfs4: Connection reset by peer", "transient", "2049"),
        ("mount.nfs4: something new", "check it and its driver", "2049"),
    ] {
        let hint = efs(said);
        assert!(hint.contains(has) && !hint.contains(hasnot), "{said}: {hint}");
    }
}

#[test]
fn the_hint_says_that_the_text_ends_before_the_cause_only_if_it_does() {
    for (reason, ends_early) in [
        (
            "CannotPullContainerError: ref pull has been retried 1 time(s): failed to copy: httpReaderSeeker: fail...",
            true,
        ),
        (
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retri\u{2026}",
            true,
        ),
        ("CannotPullContainerError", true),
        ("CannotStartContainerError: ", true),
        ("CannotStartContainerError: ResourceInitializationError:", true),
        ("CannotPullContainerError: the registry said something new", false),
        ("CannotStartContainerError: failed to get container status: unknown", false),
        ("ResourceInitializationError: something new", false),
    ] {
        let hint = cause(&because(reason)).hint;
        assert_eq!(hint.contains("end before the cause"), ends_early, "{reason}: {hint}");
        assert!(!hint.contains("do not tell"), "{reason}: {hint}");
    }
}

#[test]
fn case_does_not_matter() {
    assert_eq!(category(&because("cannotpullcontainererror: MANIFEST UNKNOWN")), Some(Category::ImageMissing));
    assert_eq!(category(&because("no space left on device")), category(&because("No Space Left On Device")));
}

#[test]
fn every_category_is_reachable() {
    let by_code = [0, 1, 137, 143].map(|code| category(&exited(&[("app", Some(code))])));
    let mut reached: HashSet<_> = RULES.iter().map(|rule| rule.category).collect();
    reached.extend(by_code.into_iter().flatten().chain(category(&exited(&[("app", None)]))));
    // The diagnosis gives this category to stopped tasks whose reason no rule matches.
    reached.insert(Category::Unknown);
    for category in Category::ALL {
        assert!(reached.contains(category), "nothing leads to {}", category.as_str());
    }
}
