//! Finds the permissions for a diagnosis that the role lacks, and says what does not work without them.

use tokio::time::timeout;

use super::DiagnoseSettings;
use crate::{
    aws::ErrorClass,
    diagnosis::Service,
    ecs::{Ecs, LIST_TAGS},
    event::Arn,
};

impl DiagnoseSettings {
    /// What does not work without this permission, and how to switch off the requests that need it.
    pub(super) fn cost_of(&self, action: &str) -> String {
        let less = "alerts say less. To switch the requests off: diagnose.enabled = false";
        let unmatched = "no pattern that names service-tags matches, so the next route takes the alert";
        match action {
            LIST_TAGS if !self.tags.are_in_patterns => {
                "alerts do not show the tags of services (diagnose.tags)".to_owned()
            }
            LIST_TAGS => unmatched.to_owned(),
            "ecs:DescribeServices" if self.tags.are_in_patterns => format!("{unmatched}, and {less}"),
            _ => less.to_owned(),
        }
    }
}

/// The actions of a diagnosis that the role may not perform in the Region and account of the queue, each with what does not work
/// without it. The requests name resources that do not exist: any answer but a denial shows that the role may make them.
pub async fn denied_actions(
    aws: &aws_config::SdkConfig,
    settings: &DiagnoseSettings,
    queue_arn: &str,
) -> Vec<(&'static str, String)> {
    let Some(queue) = Arn::parse(queue_arn) else { return Vec::new() };
    let missing = "ecs-slack-alerts-check".to_owned();
    let service = Service {
        partition: queue.partition.to_owned(),
        region: queue.region.to_owned(),
        account: queue.account.to_owned(),
        cluster: missing.clone(),
        name: missing,
    };
    let ecs = Ecs::new(aws);
    let task = service.cluster_arn().replace(":cluster/", ":task/") + "/00000000000000000000000000000000";
    let definition = service.cluster_arn().replace(":cluster/", ":task-definition/") + ":1";
    let group = format!(
        "arn:{}:elasticloadbalancing:{}:{}:targetgroup/{}/0000000000000000",
        service.partition, service.region, service.account, service.name
    );
    let deployment =
        service.cluster_arn().replace(":cluster/", ":service-deployment/") + &format!("/{}/0", service.name);
    let requests = async {
        tokio::join!(
            async {
                let described = ecs.describe_service(&service, settings.tags.are_used()).await;
                described.map_or_else(Some, |described| described.tags_refused)
            },
            async { ecs.list_stopped_tasks(&service, None).await.err() },
            async { ecs.describe_tasks(&service, vec![task]).await.err() },
            async { ecs.describe_task_definition(&service, &definition).await.err() },
            async { ecs.list_service_deployments(&service).await.err() },
            async { ecs.describe_service_deployments(&service, vec![deployment]).await.err() },
            async { ecs.describe_target_health(&service, &group).await.err() },
            async { ecs.describe_target_group(&service, &group).await.err() },
        )
    };
    let Ok((a, b, c, d, e, f, g, h)) = timeout(settings.timeout, requests).await else { return Vec::new() };
    let denied = [a, b, c, d, e, f, g, h].into_iter().flatten().filter(|error| error.class == ErrorClass::Denied);
    denied.map(|error| (error.action, settings.cost_of(error.action))).collect()
}
