//! Rules for what a task needs before its containers start: roles, secrets, logs, disk and volumes.

use super::Category::*;
use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule::new(
        RegistryRateLimit,
        r"\btoomanyrequests\b|pull rate limit|\bToo Many Requests\b",
        &[
            "CannotPullContainerError: inspect image has been retried 5 time(s): httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/nginx/manifests/sha256:abc: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit.",
            "ERROR: toomanyrequests: Too Many Requests.",
            "CannotPullContainerError: Error response from daemon: toomanyrequests: Rate exceeded",
        ],
    ),
    Rule::new(
        Throttled,
        r"\bResourceInitializationError\b.*(?:\bThrottlingException\b|\bTooManyRequestsException\b|\bRate exceeded\b)",
        &["ResourceInitializationError: unable to pull secrets or registry auth: operation error SSM: GetParameters, https response error StatusCode: 400, ThrottlingException: Rate exceeded"],
    ),
    Rule::new(
        Runtime,
        r"(?:\bCannotPull|/var/lib/(?:docker|containerd)/).*(?:read-only file system|input/output error)|error creating overlay mount",
        &[
            "CannotPullContainerError: write /var/lib/docker/tmp/GetImageBlob111111111: read-only file system",
            "CannotCreateContainerError: Error response from daemon: mkdir /var/lib/docker/overlay2/0a1b: input/output error",
            "CannotCreateContainerError: Error response from daemon: error creating overlay mount to /var/lib/docker/overlay2/0a1b/merged: no such device",
        ],
    )
    .advise("The disk that holds the host's images and containers is faulty. EC2: check the volume of the container instance, or replace the instance."),
    // The kernel also reports "no space left" when it runs out of control groups, inotify watches or keys.
    Rule::new(
        Runtime,
        r"(?:cgroup|inotify|keyring|session key).*(?:no space left on device|disk quota exceeded)",
        &[
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: mkdir /sys/fs/cgroup/memory/ecs/0f9b: no space left on device: unknown, cgroup",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: unable to join session keyring: unable to create session key: disk quota exceeded: unknown",
        ],
    )
    .advise("The host's kernel has run out of control groups, inotify watches or keys; its disk is not full. EC2: restart or replace the container instance."),
    Rule::new(
        Disk,
        r"no space left on device|not enough (?:disk )?space|\bdisk (?:is )?full\b|There is not enough space on the disk",
        &[
            "CannotPullContainerError: write /var/lib/docker/tmp/GetImageBlob111111111: no space left on device",
            "CannotPullContainerError: failed to register layer: Error processing tar file(exit status 1): write /usr/lib/x.so: no space left on device",
            "CannotPullContainerError: failed to register layer: re-exec error: exit status 1: output: ProcessBaseLayer C:\\ProgramData\\docker\\windowsfilter\\0a1b: There is not enough space on the disk.",
        ],
    ),
    Rule::new(
        Disk,
        r"\bthin pool\b|\bdevmapper\b|\bdevicemapper\b",
        &[
            "CannotCreateContainerError: API error (500): devmapper: Thin Pool has 0 free data blocks which is less than minimum required 20253 free data blocks. Create more free space in thin pool or use dm.min_free_space option to change behavior",
            "CannotCreateContainerError: API error (500): devicemapper: Error running DeviceCreate (createSnapDevice) dm_task_run failed",
        ],
    )
    .advise("Docker's thin pool on the container instance is full or broken: remove unused images and containers, or replace the instance with one that has a larger volume."),
    Rule::new(
        Iam,
        r"\bEBS\b.*(?:\bUnauthorizedOperation\b|not authorized to perform|\bAccessDenied)",
        &["Failed to create the managed EBS volume: UnauthorizedOperation: You are not authorized to perform this operation."],
    )
    .advise("ECS creates and attaches EBS volumes with the infrastructure role of the volume's configuration: attach AmazonECSInfrastructureRolePolicyForVolumes to that role, and allow it to use the volume's KMS key if there is one."),
    // Before `ImageMissing`: ECR's denial also says "repository does not exist or may require 'docker login'".
    Rule::new(
        Iam,
        r"\bAccessDenied(?:Exception)?\b|not authorized to perform|Check that the role has the permissions|unable to assume (?:the )?(?:[\w-]+ ){0,3}role|\bUnrecognizedClient|IAM permissions policies have been misconfigured|IAM trust relationship|(?:s3 config|env files?\b|firelens).*\bForbidden\b|unable to (?:find|get) execution role credentials",
        &[
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret arn:aws:secretsmanager:eu-west-1:111122223333:secret:shop/db-AbCdEf from secrets manager: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/shopExecutionRole/0f0f0150a4248daa1bcbd68812101003 is not authorized to perform: secretsmanager:GetSecretValue on resource: arn:aws:secretsmanager:eu-west-1:111122223333:secret:shop/db-AbCdEf because no identity-based policy allows the secretsmanager:GetSecretValue action status code: 400, request id: 3f",
            "ECS was unable to assume the role 'arn:aws:iam::111122223333:role/taskRole' that was provided for this task. Please verify that the role being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass this role.",
            "(service shop) failed: Unable to assume the service linked role. Please verify that the ECS service linked role exists.",
            "The task can't pull the image. Check that the role has the permissions to pull images from the registry.",
            "CannotPullContainerError: UnrecognizedClientException: The security token included in the request is invalid.",
            "ResourceInitializationError: failed to download env files: file download command: non empty error stream: AccessDenied: Access Denied status code: 403, request id: 3f",
            "unable to download firelens s3 config file: unable to download s3 config extra.conf from bucket shop-logs: Forbidden: Forbidden status code: 403",
            "environment file resource: unable to find execution role credentials",
        ],
    ),
    // Before the rules for missing things: such a text also says that it "cannot find" a log group, but the log group may exist.
    Rule::new(
        Network,
        r"\bconnection issue\b|Check your (?:task )?network (?:configuration|connection)|(?:logger args|logging driver|log group|firelens).*(?:signal: killed|i/o timeout|context deadline exceeded|request send failed|send request failed|lookup logs\.)",
        &[
            "ResourceInitializationError: unable to pull secrets or registry auth: The task cannot pull registry auth from Amazon ECR: There is a connection issue between the task and Amazon ECR. Check your task network configuration. operation error ECR: GetAuthorizationToken, exceeded maximum number of attempts, 3, https response error StatusCode: 0, RequestID: , request send failed, Post \"https://api.ecr.eu-central-1.amazonaws.com/\": dial tcp 3.122.128.199:443: i/o timeout",
            "ResourceInitializationError: failed to validate logger args: The task cannot find the Amazon CloudWatch log group defined in the task definition. There is a connection issue between the task and Amazon CloudWatch. Check your network configuration. : signal: killed",
            "ResourceInitializationError: The task cannot pull secrets from AWS Systems Manager Parameter Store. Check your network connection between the task and AWS Systems Manager.",
        ],
    ),
    Rule::new(
        SecretMissing,
        r"Secrets Manager can't find the specified secret|can't retrieve the secret with ARN|\bParameterNotFound\b|invalid ssm parameters|(?:\bssm\b|Parameter Store).*\binvalid parameters|marked for deletion|marked deleted",
        &[
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 5 time(s): ResourceNotFoundException: Secrets Manager can't find the specified secret.",
            "ResourceInitializationError: The task can\u{2019}t retrieve the secret with ARN 'arn:aws:secretsmanager:us-west-2:111122223333:secret:prod/db-a1b2c3' from AWS Secrets Manager. Check whether the secret exists in the specified Region.",
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secrets from ssm: service call has been retried 1 time(s): invalid ssm parameters: /shop/DB_URL",
            "Fetching secret data from SSM Parameter Store in eu-west-1: invalid parameters: /shop/DB_URL",
            "ResourceInitializationError: unable to retrieve secret from asm: InvalidRequestException: You can't perform this operation on the secret because it was marked for deletion.",
        ],
    ),
    Rule::new(
        SecretKeyMissing,
        r"\bjson key\b|\bspecific key .* not found",
        &[
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): retrieved secret from Secrets Manager did not contain json key password",
            "ResourceInitializationError: secret arn:aws:secretsmanager:us-west-2:111122223333:secret:prod/db-a1b2c3: specific key api_token not found in the secret",
        ],
    ),
    Rule::new(
        SecretKeyMissing,
        r"(?:\bsecrets?\b|\basm\b).*(?:invalid character .*looking for|invalid character .*after|unexpected end of JSON|cannot unmarshal|not (?:a )?valid JSON)",
        &[
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): invalid character '\\'' looking for beginning of value",
            "fetching secret data from AWS Secrets Manager in region eu-west-1: secret arn:aws:secretsmanager:eu-west-1:111122223333:secret:shop/db-AbCdEf: unexpected end of JSON input",
            "ResourceInitializationError: unable to retrieve secret from asm: json: cannot unmarshal string into Go value of type map[string]interface {}",
        ],
    )
    .advise("valueFrom names a JSON key, but the secret's value is not a JSON object: store the value as JSON, or remove the key from valueFrom."),
    Rule::new(
        LogConfig,
        r"log group does not exist|cannot find the Amazon CloudWatch log group",
        &[
            "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. : exit status 1",
            "CannotStartContainerError: Error response from daemon: failed to initialize logging driver: failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. log group: /ecs/shop",
        ],
    )
    .advise("Create the log group in the task's Region, or set awslogs-create-group=true and allow logs:CreateLogGroup."),
    Rule::new(
        LogConfig,
        r"\bfirelens\b|\bawsfirelens\b|/var/run/fluent\.sock",
        &[
            "Unable to download firelens s3 config file: unable to download s3 config extra.conf from bucket log-config-bucket: MissingRegion: could not find region configuration",
            "unable to apply log options of container app to firelens config: missing output key Name which is required for firelens configuration of type fluentbit",
            "invalid value s3file is specified for option config-file-type: unsupported firelens config type",
            "CannotStartContainerError: Error response from daemon: failed to initialize logging driver: dial unix /var/run/fluent.sock: connect: no such file or directory",
        ],
    )
    .advise("The log router cannot be set up: check firelensConfiguration and the log options; a file in S3 is read with the task execution role."),
    Rule::new(
        LogConfig,
        r"failed to validate logger args|failed to initialize logging driver|no log driver named|unknown log opt|failed to create Cloudwatch log stream|\blog-opts?\b",
        &[
            "CannotStartContainerError: Error response from daemon: failed to initialize logging driver: dial tcp 127.0.0.1:24224: connect: connection refused",
            "CannotCreateContainerError: Error response from daemon: logger: no log driver named 'splunk2' is registered",
            "CannotCreateContainerError: Error response from daemon: unknown log opt 'awslogs-grp' for awslogs log driver",
        ],
    )
    .advise("The log driver did not start: check logConfiguration, and that its destination can be reached."),
    // EFS and other file servers: what they answered, or that they did not answer.
    Rule::new(
        Volume,
        r"(?:\bEFS\b|\bmount\.nfs4?\b|\bmounting volume failed\b).*\b(?:access denied|permission denied|operation not permitted)",
        &[
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: b'mount.nfs4: access denied by server while mounting 127.0.0.1:/' : unsuccessful EFS utils command execution; code: 32",
            "CannotCreateContainerError: Error response from daemon: create ecs-shop: VolumeDriver.Create: mounting volume failed: b'mount.nfs4: access denied by server while mounting 127.0.0.1:/'",
        ],
    )
    .advise("The file server answered and denied access: check the file system policy, the access point, and that the task role allows elasticfilesystem:ClientMount (and ClientWrite)."),
    Rule::new(
        Volume,
        r"(?:\bEFS\b|\bmount\.nfs4?\b|\bmounting volume failed\b).*No such file or directory",
        &["ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: b'mount.nfs4: mounting fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/grafana failed, reason given by server: No such file or directory' : unsuccessful EFS utils command execution; code: 32"],
    )
    .advise("The file server answered: this directory does not exist in the file system. Create it, correct rootDirectory, or use an access point that creates it."),
    Rule::new(
        Volume,
        r"Failed to resolve \S*\bfs-|(?:\bEFS\b|\bmount\.nfs4?\b).*(?:no such host|Name or service not known|Failed to resolve|could not be resolved)",
        &[
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: Failed to resolve \"fs-0123456789abcdef0.efs.us-east-1.amazonaws.com\" - check that your file system ID is correct, and ensure that the VPC has an EFS mount target for this file system ID.",
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: mount.nfs4: Failed to resolve server fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com: Name or service not known",
        ],
    )
    .advise("The file system's name does not resolve: check its id, that it has a mount target in the task's Availability Zone, and that the VPC has DNS resolution and DNS hostnames on."),
    Rule::new(
        Volume,
        r"(?:\bEFS\b|\bmount\.nfs4?\b|\bmounting volume failed\b).*Connection reset by peer",
        &[
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: mount.nfs4: Connection reset by peer : unsuccessful EFS utils command execution; code: 32",
            "CannotCreateContainerError: Error response from daemon: create ecs-shop: VolumeDriver.Create: mounting volume failed: Mount attempt 1/3 failed due to b'mount.nfs4: Connection reset by peer', wait 1 sec before next attempt.",
        ],
    )
    .advise("The file server reset the connection during the mount, which is mostly transient. If it repeats, check that security groups and TLS settings (transitEncryption) are the same in all tasks."),
    Rule::new(
        Volume,
        r"(?:\bEFS\b|\bmount\.nfs4?\b|\bmounting volume failed\b).*(?:timed out|time-?out|signal: killed|unable to complete within|deadline exceeded)",
        &[
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: mount.nfs4: Connection timed out : unsuccessful EFS utils command execution; code: 32",
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: command failed: unable to complete within time: signal: killed : unsuccessful EFS utils command execution; code: 1",
        ],
    )
    .advise("The file server did not answer: allow TCP 2049 from the task in the security group of the mount target, and check that the task's Availability Zone has a mount target."),
    // containerd reads these files of the image to find the user, and reports a failed mount.
    Rule::new(
        TaskConfig,
        r"open \S*/etc/(?:passwd|group): no such file or directory",
        &["CannotStartContainerError: ResourceInitializationError: unable to create new container: mount callback failed on /tmp/containerd-mount916692511: open /tmp/containerd-mount916692511/etc/passwd: no such file or directory"],
    )
    .advise("The image has no /etc/passwd or /etc/group, so the container's user cannot be found by name: set the user as a number. Or the image is for another operating system (Windows)."),
    Rule::new(
        Volume,
        r"\bCannotCreateVolume|\bfailed to invoke EFS utils|\bVolumeDriver\.\w+|\bVolumeError\b|\bEBS volume\b|\bEBS attachment\b|\bfsx\w*.*(?:fail|unable|error)|error looking up volume plugin|volume plugin|\bplugin \S+ not found|\bno such volume\b|Invalid volume referenced|error while mounting volume|\bResourceInitializationError\b.*(?:\bEFS\b|\bmount(?:s|ed|ing)?\b)",
        &[
            "CannotCreateVolumeError: driver failed to create the volume",
            "VolumeError: Agent could not create task's volume resources",
            "CannotStartContainerError: Error response from daemon: error while mounting volume '': VolumeDriver.Mount: docker-legacy: Mount: test: failed: problem with device discovery.",
            "CannotCreateContainerError: Error response from daemon: error looking up volume plugin rexray/ebs: plugin \"rexray/ebs\" not found",
            "ResourceInitializationError: failed to mount the file system",
            "TaskFailedToStart: Failed to attach the EBS volume vol-0123456789abcdef0: timed out",
        ],
    )
    .advise("The volume could not be created, attached or mounted: check it and its driver. EC2: also check that the volume plug-in runs on the container instance."),
    Rule::new(
        Volume,
        r"read-only file system",
        &[
            "CannotStartContainerError: Error response from daemon: error while creating mount source path '/mnt/data': mkdir /mnt/data: read-only file system",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: runc create failed: unable to start container process: error during container init: mkdirat /app/cache: read-only file system: unknown",
        ],
    )
    .advise("A file system is read-only: check readonlyRootFilesystem and readOnly mounts. EC2: if the path is on the host, check the disk of the container instance."),
    Rule::new(
        Volume,
        r"error mounting|to rootfs|invalid mount config|bind source path does not exist|error while creating mount source path|invalid volume specification|\bmount denied|not a directory: unknown: Are you trying to mount",
        &[
            "CannotStartContainerError: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting \"/opt/shop/app.conf\" to rootfs at \"/etc/app.conf\": not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type",
            "CannotCreateContainerError: Error response from daemon: invalid mount config for type \"bind\": bind source path does not exist: /mnt/data",
            "CannotStartContainerError: Error response from daemon: error while creating mount source path '/data/shop': mkdir /data: file exists",
        ],
    )
    .advise("A mount of the task definition does not fit what is on the host or in the image: check sourcePath and containerPath, and that both are files or both directories."),
];
