//! Rules for finding, pulling and unpacking the image.

use super::Category::*;
use super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule::new(
        Tls,
        r"\bx509:|failed to verify certificate|certificate (?:signed by unknown authority|verify failed|has expired)|server gave HTTP response to HTTPS client|\btls: (?:handshake failure|unknown certificate|bad certificate|protocol version not supported)|remote error: tls:",
        &[
            "CannotPullContainerError: Error response from daemon: Get \"https://registry.example.com/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "CannotPullContainerError: Error response from daemon: Get \"https://registry.corp.example/v2/\": x509: certificate has expired or is not yet valid: current time 2026-03-02T08:20:00Z is after 2026-03-01T00:00:00Z",
            "CannotPullContainerError: Error response from daemon: Get \"https://10.0.3.7:5000/v2/\": http: server gave HTTP response to HTTPS client",
            "CannotPullContainerError: Error response from daemon: Get \"https://hub.corp.example/v2/\": x509: certificate is valid for registry.corp.example, not hub.corp.example",
        ],
    ),
    // Here the deadline is the container runtime's, not a connection's.
    Rule::new(
        RuntimeTimeout,
        r"\b(?:Cannot(?:Start|Create|Stop|Inspect)ContainerError|ContainerRuntimeTimeoutError|DockerTimeoutError)\b.*context (?:deadline exceeded|canceled)",
        &[
            "CannotStartContainerError: context deadline exceeded",
            "ContainerRuntimeTimeoutError: Could not transition to running; timed out after waiting 1m: context deadline exceeded",
        ],
    ),
    // The other host cannot be reached. "signal: killed" alone does not show that: a container whose init ran out of memory has the
    // same text.
    Rule::new(
        Network,
        r"\bi/o timeout\b|TLS handshake timeout|request canceled while waiting for connection|Client\.Timeout exceeded|context (?:deadline exceeded|canceled)|\bdial tcp\b|\bno such host\b|connection reset by peer|send request failed|request send failed|\bno route to host\b|network is unreachable|\bResourceInitializationError\b.*signal: killed",
        &[
            "CannotPullContainerError: API error (500): Get https://111122223333.dkr.ecr.us-east-1.amazonaws.com/v2/: net/http: request canceled while waiting for connection",
            "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref docker.io/library/nginx:latest: failed to do request: Head \"https://registry-1.docker.io/v2/library/nginx/manifests/latest\": dial tcp 54.236.113.205:443: i/o timeout",
            "CannotPullContainerError: ref pull has been retried 1 time(s): failed to copy: context canceled",
            "CannotPullContainerError: failed to do request: dial tcp: lookup registry.internal on 10.0.0.2:53: no such host",
            "ResourceInitializationError: unable to pull secrets or registry auth: signal: killed",
            "ResourceInitializationError: unable to retrieve secret from asm: service call has been retried 5 time(s): RequestCanceled: request context canceled caused by: context deadline exceeded",
        ],
    ),
    // Not "API error (500)", which is Docker's own answer to the ECS agent.
    Rule::new(
        ImagePull,
        r"\bCannotPull.*(?:\b50[0234] (?:Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)|status code \[[^\]]*\]: 5\d\d\b|unexpected (?:HTTP )?status(?: code)?:? (?:https?://\S+ )?5\d\d\b)",
        &[
            "CannotPullContainerError: Error response from daemon: received unexpected HTTP status: 503 Service Unavailable",
            "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref registry.example.com/shop:v1: unexpected status code [manifests v1]: 502 Bad Gateway",
            "CannotPullContainerError: ref pull has been retried 5 time(s): failed to copy: httpReadSeeker: failed open: unexpected status code https://quay.io/v2/shop/api/blobs/sha256:0a1b: 504 Gateway Time-out",
        ],
    )
    .advise("The registry was reached, but answered with a server error: check its status page or logs, then try again."),
    Rule::new(
        AwsInternal,
        r"\bResourceInitializationError\b.*(?:\bStatus ?Code: 5\d\d\b|\bInternalServer(?:Error|Exception)\b|\bInternalServiceError\b|\bServiceUnavailable)",
        &["ResourceInitializationError: unable to pull secrets or registry auth: operation error Secrets Manager: GetSecretValue, https response error StatusCode: 500, RequestID: 3f, InternalServiceError: An error occurred on the server side."],
    ),
    // This rule and the next rules come before `ImageMissing`: the same texts may contain its "failed to resolve ref" or ": not found".
    Rule::new(
        ImageAuth,
        r"no basic auth credentials|\bauthorization token\b|failed to authorize|(?:pull|resolve ref).*\b(?:401 Unauthorized|403 Forbidden)|\bCannotPullContainerAuthError\b|engine (?:ecr|docker private registry) credentials: not found|unauthorized: (?:authentication|incorrect|access)|fetching authorization data|\bCannotPull.*(?:\bExpiredToken|security token .* expired)",
        &[
            "CannotPullContainerError: Error response from daemon: Head https://111122223333.dkr.ecr.us-east-1.amazonaws.com/v2/shop/manifests/latest: no basic auth credentials",
            "CannotPullContainerError: Error response from daemon: pull access denied for shop/api, repository does not exist or may require 'docker login': denied: Your authorization token has expired. Reauthenticate and try again.",
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref ghcr.io/shop/api:v1: failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref 111122223333.dkr.ecr.eu-west-1.amazonaws.com/shop:v1: pulling from host 111122223333.dkr.ecr.eu-west-1.amazonaws.com failed with status code [manifests v1]: 403 Forbidden",
            "CannotPullContainerAuthError: engine docker private registry credentials: not found",
            "CannotPullECRContainerError: ExpiredTokenException: The security token included in the request is expired",
            "asm fetching authorization data: unable to unmarshal secret value, invalid schema",
        ],
    ),
    Rule::new(
        Architecture,
        r"a Windows version \S+ image is incompatible|container operating system does not match|no match(?:ing manifest)? for (?:platform \S*)?windows|image operating system .* cannot be used on this platform|cannot be used on this platform",
        &[
            "CannotPullContainerError: a Windows version 10.0.18363-based image is incompatible with a 10.0.17763 host",
            "CannotStartContainerError: Error response from daemon: hcsshim::CreateComputeSystem 4f1c: The container operating system does not match the host operating system.",
            "CannotPullContainerError: Error response from daemon: no matching manifest for windows/amd64 10.0.17763 in the manifest list entries",
            "CannotPullContainerError: Error response from daemon: image operating system \"linux\" cannot be used on this platform",
        ],
    )
    .advise(
        "A Windows container needs a host with the same Windows version: build the image for the host's version, or run it on \
         instances with the image's version (Fargate: set operatingSystemFamily).",
    ),
    Rule::new(
        Architecture,
        r"descriptor matching platform|exec format error|no matching manifest|no match for platform",
        &[
            "CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'",
            "CannotPullContainerError: pull image manifest has been retried 7 time(s): failed to resolve ref ghcr.io/shop/api:v1: image Manifest does not contain descriptor matching platform 'linux/arm64'",
            "exec /usr/local/bin/app: exec format error",
            "CannotPullContainerError: no matching manifest for linux/arm64/v8 in the manifest list entries",
        ],
    ),
    // ECS cuts off long texts. These end before the reason: a full disk, a cancelled pull, or a layer that cannot be read.
    Rule::new(
        ImagePull,
        r"failed to (?:extract|register) layer(?: sha256:\w*)?:?\s*(?:write\b[^:]*|context ca[^:]*|ApplyLayer exit status \d+ stdout:\s*stderr:)?\s*$",
        &[
            "CannotPullContainerError: containerd: pull command failed: time=\"2021-08-20T13:58:49Z\" level=info msg=\"apply failure, attempting cleanup\" error=\"failed to extract layer sha256:abc: write /var...",
            "CannotPullContainerError: containerd: pull command failed: time=\"2020-10-30T10:00:00Z\" level=info msg=\"apply failure, attempting cleanup\" error=\"failed to extract layer sha256:abc: context ca...",
            "CannotPullContainerError: failed to register layer: ApplyLayer exit status 1 stdout: stderr:",
        ],
    )
    .advise("A layer could not be unpacked. Check the disk first (Fargate: ephemeralStorage; EC2: the instance's volume), then pull the image by hand."),
    Rule::new(
        ImageCorrupt,
        r"diffIDs don't match|failed to unpack image|no processor for media-type|failed to extract layer|filesystem layer verification failed|unexpected EOF.*layer|layer.*unexpected EOF|failed to register layer|unexpected commit digest|\bunknown blob\b|\bblob unknown\b",
        &[
            "CannotPullContainerError: ref pull has been retried 1 time(s): failed to unpack image on snapshotter overlayfs: unexpected media type text/html for sha256:abc: not found",
            "CannotPullContainerError: failed to extract layer sha256:abc: wrong diff id calculated",
            "CannotPullContainerError: image config diffIDs don\u{2019}t match the layers",
            "CannotPullContainerError: failed commit on ref \"layer-sha256:abc\": unexpected commit digest sha256:def, expected sha256:abc: failed precondition",
            "CannotPullContainerError: error pulling image configuration: unknown blob",
            "CannotPullContainerError: filesystem layer verification failed for digest sha256:abc",
        ],
    ),
    // ": not found" counts only after a pull error or an image name, because a shell says the same about a command.
    Rule::new(
        ImageMissing,
        r"manifest unknown|manifest for .* not found|failed to resolve ref|\bCannotPull.*: not found\b|\S/\S+:[\w.-]+: not found\b|\brepository (?:.* )?(?:not found|does not exist)|Requested image not found|Check whether the image exists|requested access to the resource is denied|\bname unknown\b|invalid reference format|\bno such image\b|failed to find a repo digest",
        &[
            "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref 111122223333.dkr.ecr.eu-central-1.amazonaws.com/example-api:nope: 111122223333.dkr.ecr.eu-central-1.amazonaws.com/example-api:nope: not found",
            "CannotPullContainerError: Error response from daemon: manifest for 111122223333.dkr.ecr.us-east-1.amazonaws.com/shop:v2 not found: manifest unknown: Requested image not found",
            "CannotPullContainerError: The task can\u{2019}t pull the image. Check whether the image exists. Error response from daemon: pull access denied for shop/api, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            "CannotPullContainerError: API error (404): repository 111122223333.dkr.ecr.us-east-1.amazonaws.com/shop/api not found",
            "CannotPullContainerError: Error response from daemon: name unknown: The repository with name 'shop' does not exist in the registry with id '111122223333'",
            "CannotPullContainerError: invalid reference format",
            "CannotCreateContainerError: Error response from daemon: No such image: registry.example.com/shop:v9",
        ],
    ),
    Rule::new(ImageAuth, r"pull access denied", &["CannotPullContainerError: pull access denied for web"]),
    Rule::new(
        Throttled,
        r"\bCannotPull.*(?:\bThrottlingException\b|Rate exceeded)",
        &["CannotPullContainerError: ThrottlingException: Rate exceeded"],
    ),
];
