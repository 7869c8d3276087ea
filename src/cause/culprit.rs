//! Finds the container with the cause: the one whose own reason is the cause, or that the text names, or that is unhealthy, or that
//! exited by itself. If several containers are possible, it is `None`.

use super::{Category, Finding, exits, hint};
use crate::event::ecs::{Container, Task};

pub(super) fn culprit<'a>(task: &Task<'a>, finding: Option<&Finding>) -> Option<Container<'a>> {
    let Some(finding) = finding else { return only_with_reason(task).or_else(|| task.only_container()) };
    match finding.category {
        Category::Dependency => return dependency(task, &finding.text),
        Category::HealthCheckContainer => return unhealthy(task).or_else(|| named(task, &finding.text)),
        _ => {}
    }
    match finding.containers.as_slice() {
        [] => {}
        [only] => return task.containers.get(*only).copied(),
        _ => return None,
    }
    if finding.rule.is_none() && follows_from_exit_codes(finding.category) {
        return match exits::failed(task).as_slice() {
            [(only, _)] => Some(*only),
            // No container exited.
            [] => task.only_container(),
            _ => None,
        };
    }
    // If there is only one container, the text is about it.
    if let [only] = task.containers.as_slice() {
        return Some(*only);
    }
    named(task, &finding.text).or_else(|| {
        let only = task.only_container()?;
        let names_another = finding.category.is_of_image() && hint::image_in(&finding.text).is_some();
        (!names_another).then_some(only)
    })
}

fn only_with_reason<'a>(task: &Task<'a>) -> Option<Container<'a>> {
    let mut with_reason = task.containers.iter().filter(|container| container.reason.is_some());
    with_reason.next().filter(|_| with_reason.next().is_none()).copied()
}

const fn follows_from_exit_codes(category: Category) -> bool {
    matches!(
        category,
        Category::Completed
            | Category::Crash
            | Category::Sigkill
            | Category::Sigterm
            | Category::StartCommand
            | Category::NoExitCode
    )
}

/// The container that another one waited for: `container ordering dependency [migrate] for target [app]`.
fn dependency<'a>(task: &Task<'a>, text: &str) -> Option<Container<'a>> {
    let after = text.split_once("dependency [").or_else(|| text.split_once("dependency container "));
    let is_named = |container: &&Container| {
        let name = container.name.filter(|name| !name.is_empty());
        name.zip(after).is_some_and(|(name, (_, after))| starts_with_name(after, name))
    };
    if let Some(named) = task.containers.iter().find(is_named) {
        return Some(*named);
    }
    match exits::failed(task).as_slice() {
        [(only, code)] if *code != 0 => Some(*only),
        _ => None,
    }
}

/// The unhealthy container, from `healthStatus`. If no container has that status, the only one that can have a health check.
fn unhealthy<'a>(task: &Task<'a>) -> Option<Container<'a>> {
    let mut unhealthy = task.containers.iter().filter(|container| container.health == Some("UNHEALTHY"));
    match (unhealthy.next(), unhealthy.next()) {
        (Some(only), None) => Some(*only),
        (Some(_), Some(_)) => None,
        (None, _) => {
            let mut checked = task.containers.iter().filter(|container| !container.is_guardduty_agent());
            checked.next().filter(|_| checked.next().is_none()).copied()
        }
    }
}

/// The container whose name or image is in the text.
fn named<'a>(task: &Task<'a>, text: &str) -> Option<Container<'a>> {
    let by_name = |container: &&Container| container.name.is_some_and(|name| names_container(text, name));
    let mut found = task.containers.iter().filter(by_name);
    if let Some(container) = found.next() {
        return found.next().is_none().then_some(*container);
    }
    let matches = || {
        task.containers.iter().map(|container| (container, container.image.map_or(0, |image| names_image(text, image))))
    };
    let best = matches().map(|(_, how_well)| how_well).max().filter(|best| *best > 0)?;
    let mut found = matches().filter(|(_, how_well)| *how_well == best);
    let (container, _) = found.next()?;
    found.next().is_none().then_some(*container)
}

/// "container app", "container 'app'", "container name: app".
fn names_container(text: &str, name: &str) -> bool {
    let is_space = |c: char| " :=\"'[(".contains(c);
    text.split("ontainer").skip(1).any(|after| {
        let after = after.trim_start_matches(is_space);
        let after = after.strip_prefix("name").map_or(after, |after| after.trim_start_matches(is_space));
        !name.is_empty() && starts_with_name(after, name)
    })
}

fn starts_with_name(text: &str, name: &str) -> bool {
    let is_of_name = |c: char| c.is_alphanumeric() || "-_".contains(c);
    text.strip_prefix(name).is_some_and(|rest| !rest.starts_with(is_of_name))
}

/// How well the text names the image: 2 with its tag or digest, 1 without, 0 not at all.
fn names_image(text: &str, image: &str) -> u8 {
    let (repository, reference) = split_reference(image);
    let (host, path) = match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("docker.io", repository),
    };
    let path = path.strip_prefix("library/").filter(|_| host == "docker.io").unwrap_or(path);
    if path.is_empty() {
        return 0;
    }
    let mut best = 0;
    for (at, _) in text.match_indices(path) {
        let (before, after) = (&text[..at], &text[at + path.len()..]);
        let before = before.rsplit([' ', '"', '\'', '(', '[', ',', '=']).next().unwrap_or_default();
        let is_whole = after.is_empty() || after.starts_with([' ', '"', '\'', ')', ']', ',', ':', '@', '.', ';']);
        let is_url = ["/manifests/", "/blobs/"].iter().any(|part| after.starts_with(part));
        if !(is_whole || is_url) || !names_registry(before, host) {
            continue;
        }
        let after = after.trim_start_matches("/manifests/").trim_start_matches([':', '@']);
        let is_same = reference.is_some_and(|reference| starts_with_name(after, reference));
        best = best.max(if is_same { 2 } else { 1 });
    }
    best
}

/// Whether the text before an image's path names its registry.
fn names_registry(before: &str, host: &str) -> bool {
    let before = before.trim_end_matches("library/").trim_end_matches("v2/");
    let Some(before) = before.strip_suffix('/') else { return before.is_empty() && host == "docker.io" };
    let registry = before.rsplit('/').next().unwrap_or_default();
    registry == host
        || (host == "docker.io" && registry.ends_with(".docker.io"))
        || (host.contains(".ecr.") && registry.ends_with(":repository"))
}

/// Splits "repository:tag" or "repository:tag@digest" into the repository and its tag, or its digest if there is one.
fn split_reference(image: &str) -> (&str, Option<&str>) {
    if let Some((repository, digest)) = image.split_once('@') {
        return (split_reference(repository).0, Some(digest));
    }
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (image, None),
    }
}
