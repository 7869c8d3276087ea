//! What to do about a cause: what its text names, then the catalogue's advice. All text from outside is one line, and cut.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

use super::{Category, Container, Evidence, exits, failed_containers};

/// What the text names, then what to do about it.
pub(super) fn hint(category: Category, text: &str, evidence: &Evidence<'_>) -> String {
    let advice = category.advice();
    let fact = match category {
        Category::Oom => says(evidence, "OutOfMemoryError").map(|who| format!("{who} ran out of memory.")),
        Category::Iam => return iam_hint(text, advice),
        Category::SecretMissing if text.contains("staging label") => {
            let secret = find(&SECRET, text).unwrap_or("The secret".into());
            return format!("{secret} has no value at the stage or version asked for: put one, or correct valueFrom.");
        }
        Category::SecretMissing => find(&SECRET, text).map(|secret| format!("{secret} was not found.")),
        Category::SecretKeyMissing => find(&SECRET_KEY, text).map(|key| match find(&SECRET, text) {
            Some(secret) => format!("{secret} has no key {key}."),
            None => format!("The secret has no key {key}."),
        }),
        Category::LogConfig if !LOG_GROUP_LOST.is_match(text.as_bytes()) => {
            return "The log driver did not start: check logConfiguration, and that its destination can be reached."
                .into();
        }
        Category::LogConfig => find(&LOG_GROUP, text).map(|group| format!("Log group {group} was not found.")),
        Category::Network => return network_hint(text, advice),
        Category::ImageMissing => return image_missing_hint(text, evidence, advice),
        Category::ImageAuth => image(text, evidence).map(|image| format!("The pull of {image} was refused.")),
        Category::Architecture => {
            let image = image(text, evidence).unwrap_or("The image".into());
            let platform = find(&PLATFORM, text).unwrap_or("the CPU it was started on".into());
            Some(format!("{image} is not built for {platform}."))
        }
        Category::ImageCorrupt | Category::ImagePull => {
            image(text, evidence).map(|image| format!("{image} could not be pulled."))
        }
        Category::HealthCheckLb => match (find(&TARGET, text), find(&UNHEALTHY, text)) {
            (Some(target), Some(reason)) => Some(format!("Unhealthy in {target}: {reason}.")),
            (Some(target), None) => Some(format!("Unhealthy in {target}.")),
            (None, reason) => reason.map(|reason| format!("Unhealthy: {reason}.")),
        },
        Category::Capacity => find(&RESOURCE, text).map(|what| format!("Lacking: {what}.")),
        Category::Quota => find(&QUOTA, text).map(|what| format!("The limit is on {what}.")),
        Category::Eni => find(&SUBNET, text).map(|subnet| format!("Subnet {subnet}.")),
        Category::Volume => find(&FILE_SYSTEM, text).map(|id| format!("File system {id}.")),
        Category::StartCommand => find(&EXECUTABLE, text).map(|path| format!("The container could not run {path}.")),
        Category::Dependency => {
            let failed = failed_containers(evidence);
            failed.first().is_some_and(|(_, code)| *code != 0).then(|| exits(&failed))
        }
        // 137 here is neither a crash nor for memory.
        Category::RoutineScaling | Category::User => {
            match evidence.containers.iter().find(|container| container.exit_code == Some(137)) {
                Some(container) => {
                    return format!(
                        "A routine stop. {} outran its stopTimeout and was killed (exit code 137, SIGKILL): let it heed \
                         SIGTERM, or raise stopTimeout.",
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
    sentences(fact, advice)
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
        return format!("{fact} The {policy} denies it explicitly: granting more does not help, change that one.");
    }
    match (find(&POLICY, text), role) {
        (Some(policy), _) if !policy.starts_with("identity") => format!("{fact} Allow it in the {policy}."),
        (_, Some(_)) => format!("{fact} Allow it in a policy of the role."),
        _ => format!("{fact} {advice}"),
    }
}

/// What was out of reach, and the ways to it.
fn network_hint(text: &str, advice: &str) -> String {
    let peer = find(&PEER, text);
    let fact = match &peer {
        Some(peer) if text.contains("no such host") => Some(format!("{peer} did not resolve: check the VPC's DNS.")),
        Some(peer) => Some(format!("The task could not reach {peer}.")),
        None => None,
    };
    if EFS.is_match(text.as_bytes()) {
        return sentences(fact, Category::Volume.advice());
    }
    sentences(fact, advice)
}

/// Which image, and whether it is known to be missing or only out of reach.
fn image_missing_hint(text: &str, evidence: &Evidence<'_>, advice: &str) -> String {
    let image = image(text, evidence);
    if text.contains("invalid reference format") {
        let name = image.map(|image| format!(" ({image})")).unwrap_or_default();
        return format!("The image's name{name} is malformed: correct it in the task definition.");
    }
    let image = image.unwrap_or("The image".into());
    if text.contains("docker login") || text.contains("access to the resource is denied") {
        return format!("{image} does not exist, or needs a login: check the name, then the registry's credentials.");
    }
    if !ABSENT.is_match(text.as_bytes()) {
        return format!("{image} was not found, or its registry could not be reached. Check the tag, then the route.");
    }
    if image.contains("@sha256:") {
        return format!(
            "{image} is not in the registry. ECS pins a deployment to a digest: if the tag was moved or expired, force a \
             new deployment."
        );
    }
    format!("{image} is not in the registry. {advice}")
}

/// The image: the one in the text, else that of the container which says it could not be pulled, else the only one.
fn image(text: &str, evidence: &Evidence<'_>) -> Option<String> {
    find(&IMAGE, text).or_else(|| {
        let pulled = |container: &&Container<'_>| container.reason.is_some_and(|reason| reason.contains("CannotPull"));
        let container = match evidence.containers.as_slice() {
            [only] => Some(only),
            several => several.iter().find(pulled),
        };
        container?.image.map(fragment)
    })
}

/// The container that says so itself.
fn says(evidence: &Evidence<'_>, phrase: &str) -> Option<String> {
    let says = |container: &&Container<'_>| container.reason.is_some_and(|reason| reason.contains(phrase));
    evidence.containers.iter().find(says).map(named)
}

/// "Container app".
fn named(container: &Container<'_>) -> String {
    container.name.map_or("A container".into(), |name| format!("Container {}", fragment(name)))
}

fn sentences(fact: Option<String>, advice: &str) -> String {
    fact.map_or(advice.into(), |fact| format!("{fact} {advice}"))
}

/// How much of a text from outside goes into a hint, in characters.
pub(super) const FRAGMENT_CHARS: usize = 300;

/// A piece of a text from outside: one line, cut with an ellipsis.
pub(super) fn fragment(raw: &str) -> String {
    let line = |c: char| if c.is_control() || c.is_whitespace() { ' ' } else { c };
    let mut piece: String = raw.trim().chars().map(line).take(FRAGMENT_CHARS).collect();
    if raw.trim().chars().nth(FRAGMENT_CHARS).is_some() {
        piece.pop();
        piece.push('…');
    }
    piece
}

/// The first group that takes part in the first match, without the punctuation around it.
fn find(pattern: &Regex, text: &str) -> Option<String> {
    let captures = pattern.captures(text.as_bytes())?;
    let found = String::from_utf8_lossy(captures.iter().skip(1).flatten().next()?.as_bytes());
    let found = found.trim_matches(|c: char| c.is_whitespace() || "'\"`:;,.()".contains(c));
    (!found.is_empty()).then(|| fragment(found))
}

/// Declares the patterns for [`find`]; they ignore case. Bytes and ASCII classes, as for the phrases: a group ends before an ASCII
/// character or where the text ends, so that what it holds is whole characters.
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
    EFS r"\bEFS\b"
    EXECUTABLE r#"\bexec: \\?"([^"\\]+)|\bexec (/\S+?):? "#
    FILE_SYSTEM r"\b(fs-[0-9a-f]+|fsap-[0-9a-f]+)\b"
    IMAGE r#"failed to resolve ref(?:erence)? ["']?([^\s"']+)|manifest for (\S+) not found|pull access denied for ([^\s,]+)|repository ([\w.-]+/\S+) not found|repository with name '([^']+)'|can(?:not|'t) pull (?:the image )?["']?([\w.-]+[/:@][^\s"']+)"#
    INSTANCE r"\(instance (i-[0-9a-f]+)\)"
    LOG_GROUP r#"log.?group(?: name)?:? (?:'([^']+)'|"([^"]+)"|(/[\w./#-]+))|:log-group:([\w./#-]+)"#
    LOG_GROUP_LOST r"log group does not exist|find the Amazon CloudWatch log group"
    PEER r#"https?://([^/\s"':]+)|\blookup (\S+)|connection (?:issue )?between the task and ((?:AWS|Amazon) [A-Z]\w+(?: (?:Manager|Logs))?)|dial tcp (\d[\d.:]+)"#
    PLATFORM r"descriptor matching platform '?([\w/]+)|no matching manifest for (\S+)"
    POLICY r"because no ((?:[\w-]+ ){0,4}?(?:policy|boundary)) allows"
    QUOTA r"limit on the number of (\w+)|requested (\w+) configuration"
    RESOURCE r"\bRESOURCE:(\w+)|\binsufficient (\w+)|\bnot have enough (CPU|memory)|(a port) required|(container instances) were found"
    ROLE r#"assumed-role/([^/\s]+)|:role/([\w+=,.@/-]+)"#
    SECRET r#"arn:[\w-]+:secretsmanager:[\w-]*:\d*:secret:([^\s:'"]+)|arn:[\w-]+:ssm:[\w-]*:\d*:parameter(/[^\s:'"]+)|secret with ARN ['"]?(?:arn:[\w-]+:secretsmanager:[\w-]*:\d*:secret:)?([^\s:'"]+)|\binvalid (?:ssm )?parameters:? \[?([^\s\]]+)"#
    SECRET_KEY r#"did not contain json key ['"]?([^\s'"]+)|specific key ['"]?([^\s'"]+?)['"]? (?:was |is )?not found"#
    SUBNET r"\b(subnet-[0-9a-f]+)\b"
    TARGET r"(?::|\b)targetgroup/([^/\s)]+)|\(elb ([^)\s]+)\)"
    THROTTLED r"throttled on (\w+)|calling the (\w+) operation|operation error ([\w ]+: \w+)"
    UNHEALTHY r"due to \(reason ([^)]+)\)"
}
