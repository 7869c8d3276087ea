//! Rules for creating and starting a container, and for the classes of errors.

use super::Category::*;
use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule::new(
        PortInUse,
        r"port is already allocated|address already in use|ports are not available|Only one usage of each socket address",
        &[
            "CannotStartContainerError: Error response from daemon: driver failed programming external connectivity on endpoint ecs-web (0d28a522): Bind for 0.0.0.0:8080 failed: port is already allocated",
            "CannotStartContainerError: Error response from daemon: driver failed programming external connectivity on endpoint ecs-web (0d28a522): failed to bind port 0.0.0.0:80/tcp: Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use",
        ],
    ),
    Rule::new(
        Runtime,
        r"\bnvidia[- ](?:container|driver|smi|docker|ctk|uvm)|\blibnvidia|\blibcuda|\bruntime name: nvidia|\bGPU\b.*(?:driver|device|error|fail|not find|associat)|could not select device driver|device driver .* with capabilities|\bNVML\b|\bneuron(?: driver|-ls)|/dev/neuron",
        &[
            "CannotStartContainerError: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy' nvidia-container-cli: initialization error: driver rpc error: failed to process request: unknown",
            "CannotStartContainerError: Error response from daemon: could not select device driver \"\" with capabilities: [[gpu]]",
            "CannotStartContainerError: Error response from daemon: unknown or invalid runtime name: nvidia",
            "CannotStartContainerError: Error response from daemon: error gathering device information while adding custom device \"/dev/neuron0\": no such file or directory",
        ],
    )
    .advise("The host cannot give the container its GPU or accelerator: check the driver on the container instance (nvidia-smi), its AMI, and that the image's CUDA version fits the driver. If they are right, restart or replace the instance."),
    Rule::new(
        Runtime,
        r"error running (?:prestart |createRuntime )?hook|\b(?:prestart|createRuntime|poststart) hooks?\b|unable to apply (?:apparmor|seccomp)|apparmor|error (?:setting|loading) seccomp|unknown or invalid runtime name",
        &[
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: error running prestart hook #0: exit status 1: unknown",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: unable to apply apparmor profile: apparmor failed to apply profile: unknown",
        ],
    )
    .advise("A hook or a security profile of the container runtime failed on the host. EC2: check the Docker daemon, its runtimes and hooks on the container instance."),
    Rule::new(
        Runtime,
        r"resource temporarily unavailable|cannot allocate memory|too many open files|unable to create new native thread|pthread_create failed|Insufficient system resources|get final child's PID from pipe",
        &[
            "CannotStartContainerError: Error response from daemon: failed to create task for container: failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable: unknown",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: runc create failed: unable to start container process: unable to start init: fork/exec /proc/self/exe: cannot allocate memory: unknown",
            "CannotCreateContainerError: Error response from daemon: open /var/lib/docker/overlay2: too many open files",
            "CannotStartContainerError: Error response from daemon: hcsshim::CreateComputeSystem 4f1c: Insufficient system resources exist to complete the requested service.",
        ],
    )
    .advise("The host has run out of processes, memory or file handles. EC2: find out what uses them on the container instance, and replace the instance if this repeats."),
    Rule::new(
        Runtime,
        r"Cannot connect to the Docker daemon|containerd\.sock|docker\.sock|transport is closing|ttrpc: closed|shim (?:task )?(?:exited|disconnected|is dead)|container runtime is down|\bCannotGetDockerClient|\bContainerNetworkingError\b|cni plugin|cni setup|network namespace|failed to set up container networking|\bnetwork \S+ not found|\bCgroupError\b|unable to create cgroup|cgroup resource:|failed to create endpoint|iptables|No chain/target/match|error creating device nodes|failed to start shim|container with id exists|is already in use by container|Could not attach to network|attr/keycreate|\bselinux\b",
        &[
            "CannotStartContainerError: Error response from daemon: failed to create task for container: connection error: desc = \"transport: Error while dialing: dial unix /run/containerd/containerd.sock: connect: connection refused\": unavailable",
            "CannotCreateContainerError: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "ContainerNetworkingError: container resource provisioning: failed to setup network namespace: cni setup: invoke bridge plugin failed",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: container with id exists: 4f1c: unknown",
            "CannotCreateContainerError: Error response from daemon: Conflict. The container name \"/ecs-web-1\" is already in use by container 4f1c",
            "CgroupError: Agent could not create task's platform resources",
            "CannotStartContainerError: Error response from daemon: driver failed programming external connectivity on endpoint ecs-web: Unable to enable DNAT rule: (iptables failed: No chain/target/match by that name.)",
        ],
    ),
    Rule::new(
        StartCommand,
        r#"executable file not found|exec: \\*".*\\*":? .*(?:permission denied|no such file or directory|is a directory|not a directory)|\bexec(?:\(\))?:? \\*"?/\S+:? (?:permission denied|no such file or directory|is a directory)|exec user process caused|no command specified|The system cannot find the file specified.*(?:CreateProcess|commandLine|encountered)|CreateProcess.*The system cannot find the file specified"#,
        &[
            "CannotStartContainerError: Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/app/start.sh\": permission denied: unknown",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \"serve\": executable file not found in $PATH: unknown",
            "CannotStartContainerError: ResourceInitializationError: failed to create new container runtime task: OCI runtime create failed: container_linux.go:370: starting container process caused: exec: \"/opt/sonarqube/bin/run.sh\": stat /opt/sonarqube/bin/run.sh: no such file or directory: unknown",
            "exec /entrypoint.sh: no such file or directory",
            "CannotCreateContainerError: Error response from daemon: No command specified",
            "CannotStartContainerError: Error response from daemon: container 4f1c encountered an error during hcs::System::CreateProcess: failure in a Windows system call: The system cannot find the file specified. (0x2)",
        ],
    ),
    Rule::new(
        TaskConfig,
        r"chdir to cwd|\bunable to find user\b|no matching entries in (?:passwd|group) file|Minimum memory limit allowed|memory limit should be|Range of CPUs is from|Invalid (?:CPU|memory) settings|Minimum memory reservation|Conflicting options|invalid hostname|invalid IP address|invalid capability|unknown capability|invalid ulimit|\bHostConfigError\b|\bContainerConfigError\b|\bDockerClientConfigError\b|invalid link format|Link target not available|Volume target not available|Unable to resolve volume mounts|conflicting parameter|credential ?spec|Invalid container name|\bsysctl\b.*(?:not in a separate|not allowed|invalid)|container memory limit\(\d+\) greater than",
        &[
            "CannotCreateContainerError: Error response from daemon: Minimum memory limit allowed is 6MB",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: runc create failed: unable to start container process: unable to find user app: no matching entries in passwd file: unknown",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: runc create failed: unable to start container process: chdir to cwd (\"/srv/app\") set in config.json failed: no such file or directory: unknown",
            "HostConfigError: Unable to resolve volume mounts; invalid path: data ; /mnt -> ",
            "CannotCreateContainerError: Error response from daemon: Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
            "CannotCreateContainerError: Error response from daemon: Conflicting options: port publishing and the container type network mode",
            "CannotStartContainerError: Error response from daemon: invalid capability: \"CAP_FOO\"",
            "task memory spec builder: container memory limit(512) greater than task memory limit(256)",
        ],
    ),
    Rule::new(
        EnvFile,
        r"\benv(?:ironment)? ?files?\b|\benvironmentFiles?\b",
        &[
            "ResourceInitializationError: failed to download env files: file download command: non empty error stream: NotFound: Not Found status code: 404, request id: 3f",
            "unable to download env file with key shop.env from bucket shop-config, error: NoSuchKey: The specified key does not exist.",
        ],
    ),
];

/// After all other rules: the classes of errors, and symptoms of something else.
pub(super) const CLASSES: &[Rule] = &[
    Rule::new(
        ImagePull,
        r"\bCannotPull(?:Container|ImageManifest|ECRContainer)",
        &[
            "CannotPullContainerError: ref pull has been retried 1 time(s): failed to copy: httpReaderSeeker: failed open: unexpected status code",
            "CannotPullContainerError",
            "CannotPullECRContainerError: AWS failed",
            "CannotPullImageManifestError: Error response from daemon: something new",
        ],
    ),
    Rule::new(
        RuntimeTimeout,
        r"\bContainerRuntimeTimeoutError\b|\bDockerTimeoutError\b|Could not transition to\b",
        &[
            "DockerTimeoutError: Could not transition to started; timed out after waiting 3m0s",
            "ContainerRuntimeTimeoutError: Could not transition to running; timed out after waiting 1m: <reason>",
            "CannotInspectContainerError: Could not transition to inspecting; timed out after waiting 30s",
        ],
    ),
    Rule::new(
        Runtime,
        r"\bContainerRuntimeError\b|\bCannotInspectContainerError\b|\bCannotStopContainerError\b|\bCannotDescribeContainerError\b|\bCannotRemoveContainerError\b|\bContainerVanishedError\b|\bTaskStateError\b|\bNoSuchContainerError\b",
        &[
            "ContainerRuntimeError: the runtime failed",
            "CannotStopContainerError: failed sending SIGTERM to container: <reason>",
            "CannotInspectContainerError: API error (500)",
            "ContainerVanishedError: No container matching saved ID found",
        ],
    ),
    Rule::new(
        ContainerStart,
        r"\bCannotStartContainerError\b|\bCannotCreateContainerError\b|\bOCI runtime\b|\bfailed to create new container runtime task\b",
        &[
            "CannotStartContainerError: failed to get container status: <reason>",
            "CannotCreateContainerError: API error (500): Untar",
            "CannotStartContainerError: Error response from daemon: OCI runtime create failed: container_linux.go:349: starting container process caused \"process_linux.go:449: container init caused",
        ],
    ),
    // Fargate cuts long messages. In some, only this prefix remains.
    Rule::new(
        ResourceInit,
        r"\bResourceInitializationError\b",
        &[
            "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been re...",
            "ResourceInitializationError",
        ],
    ),
    Rule::new(
        Dependency,
        r"\bTaskDependencyError\b|^dependency\b|\bcontainer(?:'s)? (?:ordering )?dependency\b|\bdependency (?:graph|container)\b|\bdependsOn\b",
        &[
            "dependency graph: failed to resolve container ordering dependency [migrate] for target [app] as dependency did not exit successfully.",
            "dependency graph: container ordering dependency [cache] for target [app] has timed out.",
            "TaskDependencyError: Task dependencies cannot be resolved, taskArn: arn:aws:ecs:eu-west-1:111122223333:task/prod/0f9b",
            "dependency container migrate did not reach SUCCESS",
        ],
    ),
];
