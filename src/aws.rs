//! What all AWS clients share: one configuration, one cache of credentials, one classification of errors.
//!
//! If any service answers that the credentials have expired, they are removed from the cache, and the next request is signed
//! with fresh ones ([`credentials`]).

use std::{sync::Arc, time::Duration};

use aws_config::{
    BehaviorVersion, SdkConfig, environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain,
    profile::ProfileFileRegionProvider,
};
use aws_sdk_sqs::config::SharedHttpClient;

pub use self::error::{ErrorClass, error_text};
use crate::outbound::Outbound;

mod credentials;
mod error;

/// How long a request may take, in addition to the wait of a long poll. The SDK sets no such timeout, and a receive that never
/// returns would stop a worker without an error.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// An error in the AWS configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Loads the SDK's configuration from its variables, files and roles, for every client in this process.
///
/// # Errors
/// When no Region is configured, or the text is not the name of a Region.
pub async fn load(outbound: &Outbound) -> Result<SdkConfig, ConfigError> {
    let cache = Arc::new(credentials::Cache::default());
    let http = credentials::Watch::new(outbound.aws(), Arc::clone(&cache));
    let aws = aws_config::defaults(BehaviorVersion::latest())
        .http_client(SharedHttpClient::new(http))
        .identity_cache(credentials::Renewable(cache))
        .load()
        .await;
    check_region(aws.region().map(AsRef::as_ref).unwrap_or_default())?;
    Ok(aws)
}

/// Whether the environment or a profile names a Region, so that [`load`] does not ask the instance.
pub async fn names_region() -> bool {
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    chain.region().await.is_some()
}

/// Checks that the queue of `queue_url` is in the configured Region: SQS in another Region does not know the queue.
///
/// Accepts any host that is not AWS's own, such as an emulator, a proxy or a VPC endpoint. With a configured endpoint it accepts any
/// URL.
///
/// # Errors
/// When the Regions differ. The error names both.
pub fn check_queue_region(queue_url: &str, aws: &SdkConfig) -> Result<(), ConfigError> {
    let has_sqs_endpoint = std::env::var("AWS_ENDPOINT_URL_SQS").is_ok_and(|url| !url.is_empty());
    let has_endpoint = has_sqs_endpoint || aws.endpoint_url().is_some();
    let region = aws.region().map(AsRef::as_ref).unwrap_or_default();
    match region_of_queue(queue_url) {
        Some(of_queue) if of_queue != region && !has_endpoint => Err(ConfigError(format!(
            "queue.url (QUEUE_URL): the queue is in {of_queue}, but the AWS region is {region}; set AWS_REGION to {of_queue}"
        ))),
        _ => Ok(()),
    }
}

fn check_region(region: &str) -> Result<(), ConfigError> {
    if region.is_empty() {
        return Err(ConfigError("AWS_REGION: there is no AWS region; set it, for example to eu-west-1".into()));
    }
    if !is_region(region) {
        return Err(ConfigError(format!(
            "AWS_REGION (or AWS_DEFAULT_REGION, or the profile's region): {region:?} is not the name of an AWS region, \
             such as eu-west-1"
        )));
    }
    Ok(())
}

/// Whether a text has the form of a Region's name: `eu-west-1`, `us-gov-east-1`, `eusc-de-east-1`. AWS adds Regions, so this
/// has no list. <https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html>
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let is_number = |part: &&str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (3..=4).contains(&parts.len())
        && parts.split_last().is_some_and(|(last, words)| is_number(last) && words.iter().all(is_word))
        && (2..=5).contains(&parts[0].len())
}

/// The Region in the host of a queue's URL, if it is one of AWS's public hosts: `sqs.eu-west-1.amazonaws.com`, and the older
/// `eu-west-1.queue.amazonaws.com`, and `queue.amazonaws.com` for us-east-1.
/// <https://docs.aws.amazon.com/general/latest/gr/sqs-service.html>
fn region_of_queue(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?;
    let name = ["amazonaws.com", "amazonaws.com.cn", "api.aws", "amazonaws.eu"]
        .iter()
        .find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'))?;
    let region = match name.split('.').collect::<Vec<_>>()[..] {
        ["sqs" | "sqs-fips", region] | [region, "queue"] => region,
        ["queue"] => "us-east-1",
        _ => return None,
    };
    is_region(region).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use aws_config::Region;

    use super::*;

    #[test]
    fn a_region_is_recognised_by_its_form() {
        for region in ["eu-west-1", "us-gov-east-1", "cn-north-1", "ap-southeast-7", "us-isob-east-1", "eusc-de-east-1"]
        {
            assert!(is_region(region), "{region}");
        }
        for other in
            ["", "nonsense", "eu-west", "eu-west-", "eu_west_1", "EU-WEST-1", "eu-west-1a", "eu-west-1 ", "1-2-3"]
        {
            assert!(!is_region(other), "{other}");
        }
    }

    #[test]
    fn the_error_for_a_queue_in_another_region_names_both() {
        let client = |region: &'static str| {
            SdkConfig::builder().behavior_version(BehaviorVersion::latest()).region(Region::from_static(region))
        };
        let south = client("ap-south-1").build();
        let with_endpoint = client("ap-south-1").endpoint_url("http://x").build();
        for (url, region) in [
            ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "eu-west-1"),
            ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
            ("https://sqs.eu-west-1.api.aws/1/q", "eu-west-1"),
            ("https://eu-west-1.queue.amazonaws.com/1/q", "eu-west-1"),
            ("https://queue.amazonaws.com/1/q", "us-east-1"),
        ] {
            assert!(check_queue_region(url, &client(region).build()).is_ok(), "{url}");
            let error = check_queue_region(url, &south).unwrap_err().to_string();
            assert!(error.contains(region) && error.contains("ap-south-1") && error.contains("QUEUE_URL"), "{error}");
            assert!(check_queue_region(url, &with_endpoint).is_ok(), "a configured endpoint decides where requests go");
        }
        for url in [
            "http://127.0.0.1:4566/123456789012/q",
            "http://sqs.eu-west-1.localhost.localstack.cloud:4566/1/q",
            "https://vpce-0a1b-2c3d.sqs.eu-west-1.vpce.amazonaws.com/1/q",
            "https://sqs.internal.example.com/1/q",
        ] {
            assert!(check_queue_region(url, &south).is_ok(), "{url}");
        }
    }
}
