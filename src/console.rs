//! Links into the AWS console. Pure.
//!
//! The names in a link come from events. Invariants: the host is one of AWS's, and every name is percent-encoded as a whole.

use std::fmt::{self, Write};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// All characters but those that RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The length of the longest link that is made. Links with real names are shorter. Slack refuses a button's URL of more than 3,000
/// characters.
const MAX_URL: usize = 2_000;

/// The console of one Region. A link is `None` if a name in it cannot be a real one.
#[derive(Debug, Clone, Copy)]
pub struct Console<'a> {
    domain: &'static str,
    region: &'a str,
}

impl<'a> Console<'a> {
    /// `None` if the console of the partition is not known, or `region` is not a Region's name. Without a `partition`, it follows
    /// from the Region.
    pub fn new(partition: Option<&str>, region: &'a str) -> Option<Self> {
        let domain = match partition.unwrap_or_else(|| partition_of(region)) {
            "aws" => "console.aws.amazon.com",
            "aws-cn" => "console.amazonaws.cn",
            "aws-us-gov" => "console.amazonaws-us-gov.com",
            "aws-eusc" => "console.amazonaws-eusc.eu",
            _ => return None,
        };
        let is_region = region.len() <= 32
            && region.starts_with(|c: char| c.is_ascii_lowercase())
            && region.ends_with(|c: char| c.is_ascii_digit())
            && region.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        is_region.then_some(Self { domain, region })
    }

    /// A service's deployments.
    pub fn service(&self, cluster: &str, service: &str) -> Option<String> {
        self.ecs(format_args!("clusters/{}/services/{}/deployments", encoded(cluster)?, encoded(service)?))
    }

    /// All services of a cluster.
    pub fn cluster(&self, cluster: &str) -> Option<String> {
        self.ecs(format_args!("clusters/{}/services", encoded(cluster)?))
    }

    /// A cluster's container instances and capacity providers.
    pub fn infrastructure(&self, cluster: &str) -> Option<String> {
        self.ecs(format_args!("clusters/{}/infrastructure", encoded(cluster)?))
    }

    /// A container instance.
    pub fn container_instance(&self, cluster: &str, id: &str) -> Option<String> {
        self.ecs(format_args!("clusters/{}/infrastructure/container-instances/{}", encoded(cluster)?, encoded(id)?))
    }

    /// A task. The page also shows a stopped task for as long as ECS remembers it, which is about an hour.
    pub fn task(&self, cluster: &str, task_id: &str) -> Option<String> {
        self.ecs(format_args!("clusters/{}/tasks/{}", encoded(cluster)?, encoded(task_id)?))
    }

    /// A task's logs, on the task's page in the ECS console.
    pub fn task_logs(&self, cluster: &str, task_id: &str) -> Option<String> {
        self.ecs(format_args!("clusters/{}/tasks/{}/logs", encoded(cluster)?, encoded(task_id)?))
    }

    /// A log stream in CloudWatch.
    pub fn log_stream(&self, group: &str, stream: &str) -> Option<String> {
        // The console expects names after the `#` to be encoded twice, the second time with `$` instead of `%`.
        let [group, stream] = [encoded(group)?, encoded(stream)?].map(|name| name.to_string().replace('%', "$25"));
        self.url(format_args!(
            "cloudwatch/home?region={}#logsV2:log-groups/log-group/{group}/log-events/{stream}",
            self.region
        ))
    }

    /// A CloudWatch alarm.
    pub fn alarm(&self, name: &str) -> Option<String> {
        self.url(format_args!("cloudwatch/home?region={}#alarmsV2:alarm/{}", self.region, encoded(name)?))
    }

    /// A private repository in ECR, whose name may hold slashes.
    pub fn image_repository(&self, account: &str, name: &str) -> Option<String> {
        let name: Option<Vec<String>> = name.split('/').map(|part| Some(encoded(part)?.to_string())).collect();
        let name = name?.join("/");
        self.url(format_args!("ecr/repositories/private/{}/{name}?region={}", encoded(account)?, self.region))
    }

    /// A deployment by CodeDeploy.
    pub fn code_deployment(&self, id: &str) -> Option<String> {
        self.url(format_args!("codesuite/codedeploy/deployments/{}?region={}", encoded(id)?, self.region))
    }

    /// An Auto Scaling group's activity history.
    pub fn scaling_group(&self, name: &str) -> Option<String> {
        self.url(format_args!(
            "ec2/home?region={}#AutoScalingGroupDetails:id={};view=activity",
            self.region,
            encoded(name)?
        ))
    }

    fn ecs(&self, page: fmt::Arguments<'_>) -> Option<String> {
        self.url(format_args!("ecs/v2/{page}?region={}", self.region))
    }

    fn url(&self, page: fmt::Arguments<'_>) -> Option<String> {
        // An encoded name is written in pieces. This capacity suits most links, so that the string does not grow with each piece.
        let mut url = String::with_capacity(192);
        write!(url, "https://{}.{}/{page}", self.region, self.domain).ok()?;
        (url.len() <= MAX_URL).then_some(url)
    }
}

/// The partition of a Region; empty if its console is not known.
/// Source: the Region names in <https://docs.aws.amazon.com/general/latest/gr/ecs-service.html>.
fn partition_of(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ if region.starts_with("eusc-") => "aws-eusc",
        _ if region.contains("-iso") => "",
        _ => "aws",
    }
}

/// A percent-encoded name. `None` if it is empty or too long, or if a browser would resolve it as a step in the path.
fn encoded(name: &str) -> Option<PercentEncode<'_>> {
    (!matches!(name, "" | "." | "..") && name.len() <= MAX_URL).then(|| utf8_percent_encode(name, ENCODED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_own_console() {
        for (partition, region, host) in [
            (Some("aws"), "eu-west-1", Some("eu-west-1.console.aws.amazon.com")),
            (Some("aws-cn"), "cn-north-1", Some("cn-north-1.console.amazonaws.cn")),
            (Some("aws-us-gov"), "us-gov-west-1", Some("us-gov-west-1.console.amazonaws-us-gov.com")),
            (Some("aws-eusc"), "eusc-de-east-1", Some("eusc-de-east-1.console.amazonaws-eusc.eu")),
            (Some("aws-iso"), "us-iso-east-1", None),
            (Some(""), "eu-west-1", None),
            (None, "ap-southeast-2", Some("ap-southeast-2.console.aws.amazon.com")),
            (None, "cn-northwest-1", Some("cn-northwest-1.console.amazonaws.cn")),
            (None, "us-gov-east-1", Some("us-gov-east-1.console.amazonaws-us-gov.com")),
            (None, "eusc-de-east-1", Some("eusc-de-east-1.console.amazonaws-eusc.eu")),
            (None, "us-isob-east-1", None),
        ] {
            let link = Console::new(partition, region).and_then(|console| console.service("prod", "checkout"));
            let expected = host.map(|host| {
                format!("https://{host}/ecs/v2/clusters/prod/services/checkout/deployments?region={region}")
            });
            assert_eq!(link, expected, "{partition:?} {region}");
        }
    }

    #[test]
    fn a_hostile_region_never_makes_a_link() {
        for region in ["", "evil.com/", "evil.com/#1", "eu-west-1.evil.com", "a@b", "EU (Ireland)", "eu-west-1\n", "-1"]
        {
            assert!(Console::new(Some("aws"), region).is_none(), "{region:?}");
        }
        assert!(Console::new(Some("aws"), &"a1".repeat(500)).is_none());
    }

    #[test]
    fn a_name_is_encoded_as_a_whole() {
        let console = Console::new(Some("aws"), "eu-west-1").unwrap();
        assert_eq!(
            console.alarm("EC2 CPU/Ü>50% #1").unwrap(),
            "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#alarmsV2:alarm/EC2%20CPU%2F%C3%9C%3E50%25%20%231"
        );
        assert_eq!(
            console.task_logs("a/../b?c", "1\n2|3").unwrap(),
            "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/a%2F..%2Fb%3Fc/tasks/1%0A2%7C3/logs?region=eu-west-1"
        );
    }

    #[test]
    fn a_container_instance_has_a_page_of_its_own() {
        let console = Console::new(Some("aws"), "eu-west-1").unwrap();
        assert_eq!(
            console.container_instance("prod", "c934433ef349").unwrap(),
            "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/prod/infrastructure/container-instances/c934433ef349?region=eu-west-1"
        );
    }

    #[test]
    fn the_name_of_a_log_stream_is_encoded_twice() {
        let console = Console::new(Some("aws"), "eu-west-1").unwrap();
        assert_eq!(
            console.log_stream("/ecs/checkout", "app/web server/0f9b").unwrap(),
            "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group/$252Fecs$252Fcheckout/log-events/app$252Fweb$2520server$252F0f9b"
        );
    }

    #[test]
    fn names_that_cannot_be_real_make_no_link() {
        let console = Console::new(Some("aws"), "eu-west-1").unwrap();
        for name in ["", ".", "..", &"x".repeat(1 << 20)] {
            assert_eq!(console.service("prod", name), None);
            assert_eq!(console.infrastructure(name), None);
        }
    }
}
