//! Clients of the APIs that a diagnosis reads: ECS, about services, deployments, stopped tasks and task definitions; CloudWatch Logs,
//! for the log of a container; and Elastic Load Balancing, about the health of targets ([`targets`]).
//!
//! Only this module uses the AWS SDK's types for these. It does not interpret the answers, and returns them as the JSON that AWS sent.
//! An answer holds the environments of containers, so it is never logged.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use aws_sdk_ecs::{
    Client, Config,
    config::{
        ConfigBag, Intercept, Region, RuntimeComponents, StalledStreamProtectionConfig,
        interceptors::AfterDeserializationInterceptorContextRef, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{BoxError, ProvideErrorMetadata, SdkError},
    types::{DesiredStatus, ServiceField},
};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    aws::ErrorClass,
    diagnosis::{Service, answers::LogStream},
};

mod targets;

/// How many tasks one request can list or describe.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>
const MAX_TASKS: i32 = 100;
/// How many service deployments one request can describe. The same number is listed.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServiceDeployments.html>
const MAX_DEPLOYMENTS: i32 = 20;

/// The clients. Each request goes to the Region of the service.
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
    /// The IAM action that the role needs: `ecs:ListTasks`.
    pub action: &'static str,
    /// What kind of failure it was.
    pub class: ErrorClass,
    source: Box<dyn Error + Send + Sync>,
}

/// What DescribeServices answered.
pub struct Described {
    /// The answer, without tags if the role may not read them.
    pub answer: Value,
    /// The error, if tags were requested and only they are denied.
    pub tags_refused: Option<EcsError>,
}

/// The IAM action that is reported as missing if only the tags are denied.
pub const LIST_TAGS: &str = "ecs:ListTagsForResource";

impl EcsError {
    /// The error with its sources, for the log.
    pub fn chain(self) -> String {
        format!("{:#}", anyhow::Error::from(self))
    }
}

impl Ecs {
    /// Creates the clients. Sends no request.
    pub fn new(aws: &aws_config::SdkConfig) -> Self {
        // An alert waits for the answer, so a failed request is not retried.
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

    /// The answer of DescribeServices, with the service's tags if `with_tags`. AWS's reference names no additional action for tags.
    /// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html>
    ///
    /// # Errors
    /// Any failure of the request, classified. If only the tags are denied, that is not an error.
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

    /// A page of the ARNs of stopped tasks, in no particular order, and the token of the next page. ECS remembers stopped tasks for about
    /// an hour. A page holds a hundred at most.
    ///
    /// # Errors
    /// Any failure of the request, classified.
    pub async fn list_stopped_tasks(
        &self,
        service: &Service,
        token: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), EcsError> {
        let call = self.client.list_tasks().cluster(service.cluster_arn()).service_name(&service.name);
        let call = call.desired_status(DesiredStatus::Stopped).max_results(MAX_TASKS).set_next_token(token);
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
        let call = call.max_results(MAX_DEPLOYMENTS).customize().config_override(in_region_of(service));
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

    /// The last messages in a log stream, the oldest first; empty if the stream does not exist.
    ///
    /// # Errors
    /// Any other failure of the request, classified.
    pub async fn last_messages(&self, log: &LogStream, count: i32) -> Result<Vec<String>, EcsError> {
        let call = self.logs.get_log_events().log_group_name(&log.group).log_stream_name(&log.stream);
        let region = aws_sdk_cloudwatchlogs::Config::builder().region(Region::new(log.region.clone()));
        let call = call.limit(count).start_from_head(false).customize().config_override(region);
        match call.send().await {
            Ok(answer) => Ok(answer.events.unwrap_or_default().into_iter().filter_map(|event| event.message).collect()),
            // A container that exits at once may not have logged anything.
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

/// The body of an answer. It is taken from the response because the SDK's types cannot be turned back into JSON.
#[derive(Clone, Default)]
struct Answer(Arc<Mutex<Value>>);

impl Answer {
    fn of<O, E>(&self, action: &'static str, sent: Result<O, SdkError<E>>) -> Result<Value, EcsError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        sent.map_err(|error| EcsError::new(action, error))?;
        Ok(std::mem::take(&mut self.0.lock()))
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
        *self.0.lock() = serde_json::from_slice(body).unwrap_or_default();
        Ok(())
    }
}

/// Does not show the body.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}
