//! The hint: facts from ECS's text, then the catalogue's advice. A quote from an event is on one line and cut to a maximum length.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

use super::{Category, Finding, Rule, also, exits, never_started};
use crate::event::ecs::{Container, Task};
use crate::text;

/// The whole hint: facts, advice, another container that has a problem too, and that ECS does not start a stand-alone task again.
pub(super) fn hint(finding: &Finding, task: &Task, culprit: Option<&Container>) -> String {
    let mut hint = about(finding, task, culprit);
    if let Some((container, category)) = also(task, finding) {
        let name = fragment(container.name.unwrap_or("another container"));
        let reason = container.reason.unwrap_or_default();
        let why = category.map(|category| format!(" ({})", category.title())).unwrap_or_default();
        let what = if never_started(reason) { "did not start" } else { "has a problem too" };
        hint += &format!(" Also: {name} {what}{why}.");
        if culprit.is_none_or(|culprit| culprit.name != container.name) {
            hint += &aws_agent(container).map(|advice| format!(" {advice}")).unwrap_or_default();
        }
    }
    if task.is_alone() && !finding.category.is_routine() {
        let by = task.started_by.map(|by| format!(" (started by {})", fragment(by))).unwrap_or_default();
        hint += &format!(" ECS does not start a stand-alone task again{by}.");
    }
    hint
}

fn about(finding: &Finding, task: &Task, culprit: Option<&Container>) -> String {
    let (category, text) = (finding.category, finding.text.as_str());
    let advice = fitting(finding.advice(), task);
    if let Some(advice) = culprit.and_then(aws_agent) {
        let name = culprit.map(named).unwrap_or_default();
        return match category {
            Category::HealthCheckContainer => format!("{name} is unhealthy. {advice}"),
            _ if finding.rule.is_none() => sentences(exited(task), &advice),
            _ => format!("{name} failed to start. {advice}"),
        };
    }
    let fact = match category {
        Category::Oom if finding.rule.is_some_and(Rule::has_advice) => None,
        Category::Oom => culprit.map(|who| format!("{} ran out of memory.", named(who))),
        Category::Iam => return iam_hint(text, &advice),
        Category::SecretMissing if text.contains("staging label") => {
            let secret = find(&SECRET, text).unwrap_or("The secret".into());
            return format!(
                "{secret} has no value for the stage or version that valueFrom names: store a value, or correct valueFrom."
            );
        }
        Category::SecretMissing if text.contains("deletion") || text.contains("deleted") => {
            let secret = find(&SECRET, text).unwrap_or("The secret".into());
            return format!("{secret} is marked for deletion: restore it, or correct valueFrom.");
        }
        Category::SecretMissing => find(&SECRET, text).map(|secret| format!("{secret} was not found.")),
        Category::SecretKeyMissing => find(&SECRET_KEY, text).map(|key| match find(&SECRET, text) {
            Some(secret) => format!("{secret} has no key {key}."),
            None => format!("The secret has no key {key}."),
        }),
        Category::LogConfig => log_fact(text),
        Category::EnvFile => find(&S3_KEY, text).map(|key| match find(&S3_BUCKET, text) {
            Some(bucket) => format!("{key} could not be read from the bucket {bucket}."),
            None => format!("{key} could not be read."),
        }),
        Category::Network => return network_hint(text, &advice),
        Category::Tls => {
            find(&PEER, text).map(|peer| format!("The certificate or TLS protocol of {peer} was refused."))
        }
        Category::ImageMissing => return image_missing_hint(text, task, culprit, &advice),
        Category::ImageAuth => image(text, culprit).map(|image| format!("The pull of {image} was refused.")),
        Category::Architecture => {
            let image = image(text, culprit).unwrap_or("The image".into());
            Some(match (find(&WINDOWS_IMAGE, text), find(&WINDOWS_HOST, text)) {
                (Some(built), Some(host)) => {
                    format!("{image} is built for Windows {built}, and its host is Windows {host}.")
                }
                _ if text.contains("operating system") => {
                    format!("{image} is built for another operating system than its host's.")
                }
                _ => {
                    let platform = find(&PLATFORM, text).unwrap_or("the CPU it was started on".into());
                    format!("{image} is not built for {platform}.")
                }
            })
        }
        Category::ImageCorrupt => image(text, culprit).map(|image| format!("{image} could not be pulled.")),
        Category::ImagePull | Category::ContainerStart | Category::ResourceInit => class_fact(category, text, culprit),
        Category::HealthCheckLb => match (find(&TARGET, text), find(&UNHEALTHY, text)) {
            (Some(target), Some(reason)) => Some(format!("Unhealthy in {target}: {reason}.")),
            (Some(target), None) => Some(format!("Unhealthy in {target}.")),
            (None, reason) => reason.map(|reason| format!("Unhealthy: {reason}.")),
        },
        Category::HealthCheckContainer => {
            let names: Vec<_> = task.containers.iter().filter(|it| it.health == Some("UNHEALTHY")).map(named).collect();
            (!names.is_empty()).then(|| format!("Unhealthy: {}.", names.join(", ")))
        }
        Category::Capacity => find(&RESOURCE, text).map(|what| format!("Not available: {what}.")),
        Category::PortInUse => find(&PORT, text).map(|port| format!("The host's port {port} is taken.")),
        Category::Quota => find(&QUOTA, text).map(|what| format!("The limit is for {what}.")),
        Category::Eni => find(&SUBNET, text).map(|subnet| format!("Subnet {subnet}.")),
        Category::Volume => find(&FILE_SYSTEM, text)
            .map(|id| format!("File system {id}."))
            .or_else(|| find(&MOUNT, text).map(|path| format!("Mount {path}."))),
        Category::StartCommand if finding.rule.is_some() => {
            find(&EXECUTABLE, text).map(|path| format!("The container could not run {path}."))
        }
        Category::Completed | Category::Crash | Category::Sigkill | Category::Sigterm | Category::StartCommand => {
            let code = exits::failed(task).first().map(|(_, code)| *code).unwrap_or_default();
            return sentences(exited(task), exits::advice(code, task.is_of_service()));
        }
        Category::Dependency => culprit.map(|one| match one.exit_code {
            Some(code) => exits::sentence(&[(*one, code)]),
            None => format!("{} did not reach the condition that another container waits for.", named(one)),
        }),
        // In a routine stop, 137 means neither a crash nor out of memory.
        Category::RoutineScaling | Category::User => {
            match task.containers.iter().find(|container| container.exit_code == Some(137)) {
                Some(container) => {
                    return format!(
                        "This was a routine stop. {} did not stop within stopTimeout and was killed (exit code 137, SIGKILL): \
                         make it handle SIGTERM, or raise stopTimeout.",
                        named(container)
                    );
                }
                None => None,
            }
        }
        Category::HostGone => find(&INSTANCE, text).map(|id| format!("Instance {id}.")),
        Category::Throttled => find(&THROTTLED, text).map(|api| format!("Throttled: {api}.")),
        _ => None,
    };
    sentences(fact, &advice)
}

/// Which containers failed, and with which exit codes.
fn exited(task: &Task) -> Option<String> {
    let failed = exits::failed(task);
    (!failed.is_empty()).then(|| exits::sentence(&failed))
}

/// Advice about a container that AWS added to the task. Users cannot change its image, command or health check.
fn aws_agent(container: &Container) -> Option<String> {
    let advice = if container.is_service_connect() {
        // <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-connect-concepts-deploy.html>
        "This is the proxy that ECS Service Connect adds to the task. Give the task 256 CPU units and 64 MiB more for it, \
         and turn on logConfiguration in the service's serviceConnectConfiguration to see why."
    } else if container.is_guardduty_agent() {
        // <https://docs.aws.amazon.com/guardduty/latest/ug/prereq-runtime-monitoring-ecs-support.html>
        "This is the agent that GuardDuty adds to the task. Let the task execution role pull from ECR \
         (AmazonECSTaskExecutionRolePolicy) and the subnet reach it, or tag the cluster GuardDutyManaged=false."
    } else {
        return None;
    };
    Some(advice.to_owned())
}

/// The sentences of an advice that are for this task, without their labels.
fn fitting(advice: &str, task: &Task) -> String {
    if !advice.contains(": ") {
        return advice.to_owned();
    }
    let on_fargate =
        task.launch_type == Some("FARGATE") || task.capacity_provider.is_some_and(|it| it.starts_with("FARGATE"));
    let on_instance = task.is_on_instance();
    let labels = [
        ("EC2: ", (on_instance || on_fargate).then_some(on_instance)),
        ("Fargate: ", (on_instance || on_fargate).then_some(!on_instance)),
        ("Service: ", Some(!task.is_alone())),
        ("Stand-alone: ", Some(task.is_alone())),
    ];
    let mut fitting = String::with_capacity(advice.len());
    for sentence in advice.split_inclusive(". ") {
        let label = labels.iter().find(|(label, _)| sentence.starts_with(label));
        match label {
            Some((_, Some(false))) => {}
            Some((label, Some(true))) => {
                let mut rest = sentence.chars().skip(label.len());
                fitting.extend(rest.next().into_iter().flat_map(char::to_uppercase).chain(rest));
            }
            _ => fitting.push_str(sentence),
        }
    }
    fitting.truncate(fitting.trim_end().len());
    fitting
}

/// The fact for a text that matches only the class of an error. If the text ends before the cause, the fact says so.
fn class_fact(category: Category, text: &str, culprit: Option<&Container>) -> Option<String> {
    let fact = match category {
        Category::ImagePull => image(text, culprit).map(|image| format!("{image} could not be pulled.")),
        _ => culprit
            .filter(|_| category == Category::ContainerStart)
            .map(|who| format!("{} could not be started.", named(who))),
    };
    let early = ends_early(text).then(|| "ECS's words end before the cause.".to_owned());
    match (fact, early) {
        (Some(fact), Some(early)) => Some(format!("{fact} {early}")),
        (fact, early) => fact.or(early),
    }
}

/// Whether a text is cut off, or has nothing after the names of errors: "CannotPullContainerError:".
fn ends_early(text: &str) -> bool {
    let is_name_of_error = |word: &str| word.trim_end_matches(':').ends_with("Error");
    text.ends_with("...") || text.ends_with('…') || text.split(' ').all(is_name_of_error)
}

/// The log group, or the log router's file, that the text names.
fn log_fact(text: &str) -> Option<String> {
    if LOG_GROUP_MISSING.is_match(text.as_bytes()) {
        return find(&LOG_GROUP, text).map(|group| format!("Log group {group} was not found."));
    }
    let key = find(&S3_KEY, text)?;
    let from = find(&S3_BUCKET, text).map(|bucket| format!(" from the bucket {bucket}")).unwrap_or_default();
    Some(format!("The log router's {key} could not be read{from}."))
}

/// Which role lacks which action on which resource, and in which kind of policy.
fn iam_hint(text: &str, advice: &str) -> String {
    let role = find(&ROLE, text);
    if ASSUME.is_match(text.as_bytes()) {
        let role = role.map_or("a role".into(), |role| format!("the role {role}"));
        return format!(
            "ECS cannot assume {role}. Check that it exists and that its trust policy names the ECS principal \
             (ecs-tasks.amazonaws.com for a task's own roles)."
        );
    }
    let Some(action) = find(&ACTION, text) else {
        return sentences(role.map(|role| format!("Role {role} was denied.")), advice);
    };
    let resource = find(&DENIED_RESOURCE, text).map(|resource| format!(" on {resource}")).unwrap_or_default();
    let fact = match &role {
        Some(role) => format!("Role {role} lacks {action}{resource}."),
        None => format!("{action}{resource} was denied."),
    };
    if let Some(policy) = find(&DENY, text) {
        return format!(
            "{fact} The {policy} denies it explicitly: change that policy, because further permissions do not help."
        );
    }
    match (find(&POLICY, text), role) {
        (Some(policy), _) if !policy.starts_with("identity") => format!("{fact} Allow it in the {policy}."),
        (_, Some(_)) => format!("{fact} Allow it in a policy of the role."),
        _ => format!("{fact} {advice}"),
    }
}

/// Which host could not be reached, and the ways to reach it.
fn network_hint(text: &str, advice: &str) -> String {
    let peer = find(&PEER, text);
    let fact = match &peer {
        Some(peer) if text.contains("no such host") => Some(format!("{peer} did not resolve: check the VPC's DNS.")),
        Some(peer) => Some(format!("The task could not reach {peer}.")),
        None => None,
    };
    let hint = sentences(fact, advice);
    match peer.filter(|peer| is_host_outside_aws(peer)) {
        Some(peer) => format!("{hint} VPC endpoints lead only to AWS's services, not to {peer}."),
        None => hint,
    }
}

/// Whether it is the name of a host outside AWS. An IP address may belong to AWS, and "Amazon ECR" is not a host name.
fn is_host_outside_aws(peer: &str) -> bool {
    const OF_AWS: [&str; 4] = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonaws.eu"];
    let host = peer.split(':').next().unwrap_or(peer).to_ascii_lowercase();
    let is_name =
        host.contains('.') && host.chars().any(|c| c.is_ascii_alphabetic()) && !host.contains(char::is_whitespace);
    is_name && !OF_AWS.iter().any(|domain| host.ends_with(domain)) && host != "public.ecr.aws"
}

/// Which image, and whether it is missing or perhaps only unreachable.
fn image_missing_hint(text: &str, task: &Task, culprit: Option<&Container>, advice: &str) -> String {
    let image = image(text, culprit);
    if text.contains("invalid reference format") {
        let name = image.map(|image| format!(" ({image})")).unwrap_or_default();
        return format!("The image's name{name} is malformed: correct it in the task definition.");
    }
    let image = image.unwrap_or("The image".into());
    if text.contains("o such image") {
        return format!(
            "{image} was not on the host when the container should have been created: its pull failed, or a cleanup removed it. \
             Check its name, the agent's image cleanup and ECS_IMAGE_PULL_BEHAVIOR."
        );
    }
    if text.contains("docker login") || text.contains("access to the resource is denied") {
        return format!("{image} does not exist, or needs a login: check the name, then the registry's credentials.");
    }
    if !ABSENT.is_match(text.as_bytes()) {
        return format!("{image} was not found, or its registry could not be reached. Check the tag, then the route.");
    }
    if image.contains("@sha256:") && !task.is_alone() {
        return format!(
            "{image} is not in the registry. ECS pins a deployment to a digest: if the tag was moved or expired, force a \
             new deployment."
        );
    }
    format!("{image} is not in the registry. {advice}")
}

/// The image: the one in the text, else the culprit's.
fn image(text: &str, culprit: Option<&Container>) -> Option<String> {
    image_in(text).or_else(|| culprit?.image.map(fragment))
}

/// The image that the text names.
pub(super) fn image_in(text: &str) -> Option<String> {
    if text.contains("o such image") {
        return find(&NO_SUCH_IMAGE, text);
    }
    find(&IMAGE, text).or_else(|| {
        let captures = IMAGE_URL.captures(text.as_bytes())?;
        let part = |index| captures.get(index).map(|part| String::from_utf8_lossy(part.as_bytes()).into_owned());
        let (registry, repository) = (part(1)?, part(2)?);
        Some(fragment(&if registry.ends_with("docker.io") { repository } else { format!("{registry}/{repository}") }))
    })
}

/// "Container app".
pub(super) fn named(container: &Container) -> String {
    container.name.map_or("A container".into(), |name| format!("Container {}", fragment(name)))
}

fn sentences(fact: Option<String>, advice: &str) -> String {
    fact.map_or(advice.into(), |fact| format!("{fact} {advice}"))
}

/// The maximum length of a quote from an event, in characters.
pub(super) const FRAGMENT_CHARS: usize = 300;

/// A quote from an event: one line, cut to [`FRAGMENT_CHARS`] with an ellipsis.
pub(super) fn fragment(raw: &str) -> String {
    text::line(raw, FRAGMENT_CHARS)
}

/// The first match's first group that matched something, without the punctuation around it.
fn find(pattern: &Regex, text: &str) -> Option<String> {
    let captures = pattern.captures(text.as_bytes())?;
    let found = String::from_utf8_lossy(captures.iter().skip(1).flatten().next()?.as_bytes());
    let found = found.trim_matches(|c: char| c.is_whitespace() || "'\"`:;,.()".contains(c));
    (!found.is_empty()).then(|| fragment(found))
}

/// Declares the patterns for [`find`]; they ignore case. Like the catalogue's patterns, they match bytes with ASCII classes. A group
/// ends before an ASCII character or at the end of the text, so it never cuts a character in two.
macro_rules! details {
    ($($name:ident $pattern:literal)*) => {
        $(static $name: LazyLock<Regex> = LazyLock::new(|| {
            RegexBuilder::new($pattern)
                .case_insensitive(true)
                .unicode(false)
                .build()
                .expect("a constant pattern; a test compiles each")
        });)*

        #[cfg(test)]
        pub(super) fn compile_details() {
            $(LazyLock::force(&$name);)*
        }
    };
}

details! {
    ABSENT r"not found|manifest unknown|name unknown|does not exist|whether the image exists"
    ACTION r"not authorized to perform:? ([\w-]+:\w+)|policy allows the ([\w-]+:\w+) action"
    ASSUME r"unable to assume|trust relationship"
    DENIED_RESOURCE r"not authorized to perform:? \S+ on (?:the )?resource:? (\S+)"
    DENY r"explicit deny in an? ((?:[\w-]+ ){0,4}?(?:policy|boundary))"
    EXECUTABLE r#"\bexec: \\?"([^"\\]+)|\bexec (/\S+?):? "#
    FILE_SYSTEM r"\b(fs-[0-9a-f]+|fsap-[0-9a-f]+)\b"
    IMAGE r#"failed to resolve ref(?:erence)? ["']?([^\s"']+)|manifest for (\S+) not found|pull access denied for ([^\s,]+)|repository ([\w.-]+/\S+) not found|repository with name '([^']+)'|can(?:not|'t) pull (?:the image )?["']?([\w.-]+[/:@][^\s"']+)"#
    IMAGE_URL r"https?://([^/\s]+)/v2/(\S+?)/(?:manifests|blobs)/"
    INSTANCE r"\(instance (i-[0-9a-f]+)\)"
    LOG_GROUP r#"log.?group(?: name)?:? (?:'([^']+)'|"([^"]+)"|(/[\w./#-]+))|:log-group:([\w./#-]+)"#
    LOG_GROUP_MISSING r"log group does not exist|find the Amazon CloudWatch log group"
    MOUNT r#"error mounting \\?"([^"\\]+)|bind source path does not exist: (\S+)|mount source path '([^']+)'|\bplugin \\?"?([\w./:-]+?)\\?"? not found|\b(vol-[0-9a-f]+)\b"#
    NO_SUCH_IMAGE r"\bno such image: (\S+)"
    PEER r#"https?://([^/\s"':]+)|\blookup (\S+)|connection (?:issue )?between the task and ((?:AWS|Amazon) [A-Z]\w+(?: (?:Manager|Logs))?)|dial tcp (\d[\d.:]+)"#
    PLATFORM r"descriptor matching platform '?([\w/]+)|no matching manifest for (\S+)"
    POLICY r"because no ((?:[\w-]+ ){0,4}?(?:policy|boundary)) allows"
    PORT r"\bBind for \S*?:(\d+) failed|\blisten \w+ \S*?:(\d+): |\bport (?:\S*:)?(\d+)"
    QUOTA r"limit on the number of (\w+)|requested (\w+) configuration"
    RESOURCE r"\bRESOURCE:(\w+)|\binsufficient (\w+)|\bnot have enough (CPU|memory)|(a port) required|(container instances) were found"
    ROLE r#"assumed-role/([^/\s]+)|:role/([\w+=,.@/-]+)"#
    S3_BUCKET r#"\bbucket "?([\w.-]+)"?"#
    S3_KEY r#"\bs3 config (\S+) from\b|\bwith key (\S+) from\b"#
    SECRET r#"arn:[\w-]+:secretsmanager:[\w-]*:\d*:secret:([^\s:'"]+)|arn:[\w-]+:ssm:[\w-]*:\d*:parameter(/[^\s:'"]+)|secret with ARN ['"]?(?:arn:[\w-]+:secretsmanager:[\w-]*:\d*:secret:)?([^\s:'"]+)|\binvalid (?:ssm )?parameters:? \[?([^\s\]]+)"#
    SECRET_KEY r#"did not contain json key ['"]?([^\s'"]+)|specific key ['"]?([^\s'"]+?)['"]? (?:was |is )?not found"#
    SUBNET r"\b(subnet-[0-9a-f]+)\b"
    TARGET r"(?::|\b)targetgroup/([^/\s)]+)|\(elb ([^)\s]+)\)"
    THROTTLED r"throttled on (\w+)|calling the (\w+) operation|operation error ([\w ]+: \w+)"
    UNHEALTHY r"due to \(reason ([^)]+)\)"
    WINDOWS_HOST r"incompatible with an? (\d[\d.]+) host|\bwindows/\w+ (\d[\d.]+)"
    WINDOWS_IMAGE r"\bWindows version (\d[\d.]+)-based image"
}
