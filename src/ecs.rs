//! ECS's API, to read: what a service, its deployments, its stopped tasks and their task definitions are; the log of a container; and,
//! of the load balancer before it, the health of its targets ([`targets`]).
//! Nothing else here knows the AWS SDK's types for these, and nothing of the answers is understood here: they go on as the JSON that came.
//!
//! An answer holds the environments of containers, so it is never logged.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_ecs::{
    Client, Config,
    config::{
        ConfigBag, Intercept, Region, RuntimeComponents, StalledStreamProtectionConfig,
        interceptors::AfterDeserializationInterceptorContextRef, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{BoxError, ProvideErrorMetadata, SdkError},
    types::{DesiredStatus, ServiceField},
};
use serde_json::Value;

use crate::{
    aws::ErrorClass,
    diagnosis::{Service, answers::LogStream},
};

mod targets;

/// How many tasks one request can list or describe.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>
const MOST_TASKS: i32 = 100;
/// How many service deployments one request can describe; as many are listed.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServiceDeployments.html>
const MOST_DEPLOYMENTS: i32 = 20;

/// ECS's API in whatever region a service is.
#[derive(Debug)]
pub struct Ecs {
    client: Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    load_balancing: aws_sdk_elasticloadbalancingv2::Client,
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} failed")]
pub struct EcsError {
    /// What a role must be allowed for it: `ecs:ListTasks`.
    pub action: &'static str,
    /// What kind of failure it was.
    pub class: ErrorClass,
    source: Box<dyn Error + Send + Sync>,
}

/// What DescribeServices answered.
pub struct Described {
    /// The answer; without tags where these are refused.
    pub answer: Value,
    /// Why it has no tags, where they were wanted and all else may be read.
    pub tags_refused: Option<EcsError>,
}

/// The action to allow where only the tags are refused.
pub const LIST_TAGS: &str = "ecs:ListTagsForResource";

impl EcsError {
    /// The error with everything that led to it, for a log.
    pub fn chain(self) -> String {
        format!("{:#}", anyhow::Error::from(self))
    }
}

impl Ecs {
    /// A client; no request is made.
    pub fn new(aws: &aws_config::SdkConfig) -> Self {
        // An alert waits for the answer: rather none than a late one.
        let aws = aws
            .to_builder()
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(Duration::from_secs(3)).build())
            .build();
        Self {
            client: Client::new(&aws),
            logs: aws_sdk_cloudwatchlogs::Client::new(&aws),
            load_balancing: aws_sdk_elasticloadbalancingv2::Client::new(&aws),
        }
    }

    /// The answer of DescribeServices, with the service's tags if so wanted. These need no other permission than the rest: AWS's
    /// reference names no dependent action. <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html>
    ///
    /// # Errors
    /// Any failure of the request, classified. That only the tags are refused is none.
    pub async fn describe_service(&self, service: &Service, with_tags: bool) -> Result<Described, EcsError> {
        match self.describe_one(service, with_tags).await {
            Err(error) if with_tags && matches!(error.class, ErrorClass::Denied | ErrorClass::Invalid) => {
                let answer = self.describe_one(service, false).await?;
                Ok(Described { answer, tags_refused: Some(EcsError { action: LIST_TAGS, ..error }) })
            }
            answer => Ok(Described { answer: answer?, tags_refused: None }),
        }
    }

    async fn describe_one(&self, service: &Service, with_tags: bool) -> Result<Value, EcsError> {
        let call = self.client.describe_services().cluster(service.cluster_arn()).services(&service.name);
        let call = call.set_include(with_tags.then(|| vec![ServiceField::Tags]));
        let answer = Answer::default();
        let call = call.customize().config_override(in_region_of(service)).interceptor(answer.clone());
        answer.of("ecs:DescribeServices", call.send().await)
    }

    /// A page of the ARNs of the tasks that stopped within the hour or so that ECS remembers, in no order; and the token of the next page.
    /// A page holds a hundred at most.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn list_stopped_tasks(
        &self,
        service: &Service,
        token: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), EcsError> {
        let call = self.client.list_tasks().cluster(service.cluster_arn()).service_name(&service.name);
        let call = call.desired_status(DesiredStatus::Stopped).max_results(MOST_TASKS).set_next_token(token);
        let call = call.customize().config_override(in_region_of(service));
        let listed = call.send().await.map_err(|error| EcsError::new("ecs:ListTasks", error))?;
        Ok((listed.task_arns.unwrap_or_default(), listed.next_token))
    }

    /// The ARNs of the latest deployments of a service, twenty at most.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn list_service_deployments(&self, service: &Service) -> Result<Vec<String>, EcsError> {
        let call = self.client.list_service_deployments().cluster(service.cluster_arn()).service(&service.name);
        let call = call.max_results(MOST_DEPLOYMENTS).customize().config_override(in_region_of(service));
        let listed = call.send().await.map_err(|error| EcsError::new("ecs:ListServiceDeployments", error))?;
        let deployments = listed.service_deployments.unwrap_or_default();
        Ok(deployments.into_iter().filter_map(|deployment| deployment.service_deployment_arn).collect())
    }

    /// The answer of DescribeServiceDeployments; twenty ARNs at most.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn describe_service_deployments(
        &self,
        service: &Service,
        deployments: Vec<String>,
    ) -> Result<Value, EcsError> {
        let call = self.client.describe_service_deployments().set_service_deployment_arns(Some(deployments));
        let answer = Answer::default();
        let call = call.customize().config_override(in_region_of(service)).interceptor(answer.clone());
        answer.of("ecs:DescribeServiceDeployments", call.send().await)
    }

    /// The answer of DescribeTasks; a hundred tasks at most.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn describe_tasks(&self, service: &Service, tasks: Vec<String>) -> Result<Value, EcsError> {
        let call = self.client.describe_tasks().cluster(service.cluster_arn()).set_tasks(Some(tasks));
        let answer = Answer::default();
        let call = call.customize().config_override(in_region_of(service)).interceptor(answer.clone());
        answer.of("ecs:DescribeTasks", call.send().await)
    }

    /// The answer of DescribeTaskDefinition.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn describe_task_definition(&self, service: &Service, arn: &str) -> Result<Value, EcsError> {
        let call = self.client.describe_task_definition().task_definition(arn);
        let answer = Answer::default();
        let call = call.customize().config_override(in_region_of(service)).interceptor(answer.clone());
        answer.of("ecs:DescribeTaskDefinition", call.send().await)
    }

    /// The last messages in a log stream, the oldest first; none if there is no such stream.
    ///
    /// # Errors
    /// Any other failure of the request, classified.
    pub async fn last_messages(&self, log: &LogStream, count: i32) -> Result<Vec<String>, EcsError> {
        let call = self.logs.get_log_events().log_group_name(&log.group).log_stream_name(&log.stream);
        let region = aws_sdk_cloudwatchlogs::Config::builder().region(Region::new(log.region.clone()));
        let call = call.limit(count).start_from_head(false).customize().config_override(region);
        match call.send().await {
            Ok(answer) => Ok(answer.events.unwrap_or_default().into_iter().filter_map(|event| event.message).collect()),
            // A container that dies at once may not have logged anything.
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(Vec::new())
            }
            Err(error) => Err(EcsError::new("logs:GetLogEvents", error)),
        }
    }
}

fn in_region_of(service: &Service) -> aws_sdk_ecs::config::Builder {
    Config::builder().region(Region::new(service.region.clone()))
}

impl EcsError {
    fn new<E>(action: &'static str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        Self { action, class: ErrorClass::of(&error), source: error.into() }
    }
}

/// The body of an answer as it came: the SDK's own types cannot be turned back into JSON.
#[derive(Clone, Default)]
struct Answer(Arc<Mutex<Value>>);

impl Answer {
    fn of<O, E>(&self, action: &'static str, sent: Result<O, SdkError<E>>) -> Result<Value, EcsError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        sent.map_err(|error| EcsError::new(action, error))?;
        Ok(std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Intercept for Answer {
    fn name(&self) -> &'static str {
        "Answer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = serde_json::from_slice(body).unwrap_or_default();
        Ok(())
    }
}

/// Says nothing of what it holds.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}
