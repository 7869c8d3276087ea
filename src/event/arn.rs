//! Amazon Resource Names, in both forms of ECS: with the cluster in the path, and the older form without it.

/// A parsed ARN, which borrows from its text. Only its shape is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `aws`, `aws-cn`, `aws-us-gov` …
    pub partition: &'a str,
    /// `ecs`, `cloudwatch` …
    pub service: &'a str,
    /// Empty for a global resource.
    pub region: &'a str,
    /// The account's id; empty for a few resources.
    pub account: &'a str,
    /// Everything after the account: `service/prod/checkout`, `alarm:cpu`.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Parses a text that consists of one ARN.
    pub fn parse(text: &'a str) -> Option<Self> {
        let is_colon = |c| c == b':';
        let rest = text.trim().strip_prefix("arn:")?;
        let (partition, rest) = split_once(rest, is_colon)?;
        let (service, rest) = split_once(rest, is_colon)?;
        let (region, rest) = split_once(rest, is_colon)?;
        let (account, resource) = split_once(rest, is_colon)?;
        let arn = Self { partition, service, region, account, resource };
        (!arn.partition.is_empty() && !arn.resource.is_empty()).then_some(arn)
    }

    /// Every ARN in a text.
    pub fn find_in(text: &'a str) -> impl Iterator<Item = Self> {
        let mut rest = text;
        let words = std::iter::from_fn(move || {
            let (_, found) = rest.split_at(rest.find("arn:")?);
            let end = found.find(ends_arn);
            let (word, after) = found.split_at(end.unwrap_or(found.len()));
            rest = after;
            Some(word.trim_end_matches(['.', ':', '!', '?']))
        });
        words.filter_map(Self::parse)
    }

    /// `service`, `task`, `cluster`, `alarm` …
    pub fn resource_type(&self) -> &'a str {
        self.type_and_path().0
    }

    /// The resource without its type: `prod/checkout`.
    fn path(&self) -> &'a str {
        self.type_and_path().1
    }

    fn type_and_path(&self) -> (&'a str, &'a str) {
        split_once(self.resource, |c| matches!(c, b'/' | b':')).unwrap_or((self.resource, ""))
    }

    /// The name of the ECS cluster, if the ARN contains it.
    pub fn cluster(&self) -> Option<&'a str> {
        if self.service != "ecs" {
            return None;
        }
        let cluster = match self.resource_type() {
            "cluster" => self.path(),
            "task-definition" | "capacity-provider" => return None,
            _ => self.path().split_once('/')?.0,
        };
        (!cluster.is_empty()).then_some(cluster)
    }

    /// The name or id of the resource, without the cluster: a service's name, a task's id. For a deployment, a
    /// revision or a task set it is the name of the service or daemon that it belongs to.
    pub fn name(&self) -> Option<&'a str> {
        let path = self.path();
        let name = match (self.resource_type(), path.split_once('/')) {
            (_, None) => path,
            (
                "service-deployment" | "service-revision" | "task-set" | "daemon-deployment" | "daemon-revision",
                Some((_, rest)),
            ) => rest.split('/').next().unwrap_or_default(),
            (_, Some((_, rest))) => rest,
        };
        (!name.is_empty()).then_some(name)
    }

    /// The name of the ECS service, if it is the ARN of a service or of something that belongs to a service.
    pub fn service_name(&self) -> Option<&'a str> {
        let of_service =
            matches!(self.resource_type(), "service" | "service-deployment" | "service-revision" | "task-set");
        if self.service == "ecs" && of_service { self.name() } else { None }
    }

    /// The name of the ECS daemon, if it is the ARN of a daemon or of something that belongs to a daemon.
    pub fn daemon_name(&self) -> Option<&'a str> {
        let of_daemon = matches!(self.resource_type(), "daemon" | "daemon-deployment" | "daemon-revision");
        if self.service == "ecs" && of_daemon { self.name() } else { None }
    }
}

/// The texts before and after the first byte that is this ASCII character. The parts of an ARN are so short that a loop over the
/// bytes takes a fraction of the time of a search for a `char`.
fn split_once(text: &str, is_separator: impl Fn(u8) -> bool) -> Option<(&str, &str)> {
    let at = text.bytes().position(|c| c.is_ascii() && is_separator(c))?;
    Some((&text[..at], &text[at + 1..]))
}

const fn ends_arn(c: char) -> bool {
    let is_punctuation =
        matches!(c, '"' | '\'' | '`' | ',' | ';' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '|' | '\\');
    is_punctuation || c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_and_the_new_form_give_the_same_names() {
        for (text, cluster, name) in [
            ("arn:aws:ecs:eu-west-1:1:service/prod/checkout", Some("prod"), Some("checkout")),
            ("arn:aws:ecs:eu-west-1:1:service/checkout", None, Some("checkout")),
            ("arn:aws:ecs:eu-west-1:1:task/prod/33a7f272", Some("prod"), Some("33a7f272")),
            ("arn:aws:ecs:eu-west-1:1:task/33a7f272-8262", None, Some("33a7f272-8262")),
            ("arn:aws-cn:ecs:cn-north-1:1:cluster/prod", Some("prod"), Some("prod")),
            ("arn:aws:ecs:eu-west-1:1:service-deployment/prod/checkout/0EYS", Some("prod"), Some("checkout")),
            ("arn:aws:ecs:eu-west-1:1:task-set/prod/checkout/ecs-svc/12", Some("prod"), Some("checkout")),
            ("arn:aws:ecs:eu-west-1:1:daemon-revision/prod/agent/8570", Some("prod"), Some("agent")),
            ("arn:aws:ecs:eu-west-1:1:task-definition/web:15", None, Some("web:15")),
            ("arn:aws:ecs:eu-west-1:1:service/", None, None),
            ("arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/73e2", None, Some("73e2")),
        ] {
            let arn = Arn::parse(text).unwrap();
            assert_eq!((arn.cluster(), arn.name()), (cluster, name), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_an_arn_is_none() {
        for text in ["", "arn", "arn:aws:ecs", "arn:aws:ecs:eu-west-1:1:", "service/prod/checkout", "arn::::::"] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn arns_are_found_in_a_sentence() {
        let text = "Task (arn:aws:ecs:eu-west-1:1:task/a/b) of \"arn:aws:ecs:eu-west-1:1:service/a/c\" died. See arn:aws:ecs:eu-west-1:1:cluster/a.";
        let found: Vec<_> = Arn::find_in(text).map(|arn| arn.resource).collect();
        assert_eq!(found, ["task/a/b", "service/a/c", "cluster/a"]);
    }
}
