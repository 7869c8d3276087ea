//! The time from an event in the queue to the diagnosed alert in Slack, with a stand-in for ECS that delays its answers.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::ecs::EcsApi;
use lab::events::Ecs;
use lab::sqs::Sqs;
use serde_json::{Value, json};

use crate::consumer::Consumer;
use crate::hook::Hook;
use crate::parts::{Running, channels_by_suffix, config_file, name, percentile};

/// How long each answer takes. AWS publishes no such figures, so these are assumed: from 60 ms for a request that reads one resource
/// to 200 ms for one that describes a hundred tasks. The benchmark shows which of them add up.
const DELAYS: [(&str, u64); 8] = [
    ("DescribeServices", 100),
    ("ListTasks", 80),
    ("DescribeTasks", 200),
    ("DescribeTaskDefinition", 60),
    ("ListServiceDeployments", 80),
    ("DescribeServiceDeployments", 100),
    ("DescribeTargetGroups", 60),
    ("DescribeTargetHealth", 100),
];
/// The longest of them.
const SLOWEST: u64 = 200;
/// The longest time for requests of which one needs the answer of another: ListTasks and then DescribeTasks.
const IN_TURN: u64 = 80 + 200;
/// Twice the worker's interval between diagnoses, so that its rate limit skips none.
const PERIOD: Duration = Duration::from_secs(1);
/// With one alert a second, the second round of alerts comes while the diagnoses of the first are still cached.
const SERVICES: usize = 50;
const CHANNELS: usize = 50;

pub(crate) async fn latency() -> Result<()> {
    let ecs = EcsApi::start::<&str>(&[]).await?;
    for service in 0..SERVICES {
        answers(&name(service)).into_iter().for_each(|answer| ecs.record(answer));
    }
    for (operation, delay) in DELAYS {
        ecs.answer_after(operation, Duration::from_millis(delay));
    }
    let sqs = Sqs::start().await?;
    let hook = Hook::start().await?;
    // Without incidents each alert is a message of its own.
    let config = config_file(&("[incidents]\nenabled = false\n".to_owned() + &channels_by_suffix(CHANNELS, &hook)))?;
    let mut aws = sqs.environment();
    aws.extend(ecs.environment());
    let mut running = Running::start_at(&sqs, aws, Consumer::Diagnosing, hook, ("CONFIG_FILE", &config)).await?;
    println!(
        "\nFrom the queue to the diagnosed alert in Slack, ms. The slowest answer of ECS takes {SLOWEST} ms; ListTasks and"
    );
    println!("then DescribeTasks, which needs its answer, take {IN_TURN} ms:\n");
    println!(
        "| | alerts | p50 | p99 | p50 beyond the slowest answer | p50 beyond the two in turn |\n|---|--:|--:|--:|--:|--:|"
    );
    for what in ["the first alert of a service (cold)", "the second, within a minute (cached)"] {
        let event = |service: usize| Ecs::default().start_impaired(&name(service)).to_string();
        let delays = running.delays_of(0..SERVICES, PERIOD, event).await?;
        let diagnosed = running.hook.posts().iter().filter(|(_, body)| is_diagnosed(body)).count();
        ensure!(diagnosed > 0 && diagnosed % SERVICES == 0, "{diagnosed} alerts were diagnosed");
        let [p50, p99] = [(&delays, 50), (&delays, 99)].map(percentile);
        let beyond =
            |delay: u64| if what.contains("cold") { format!("{:.1}", p50 - delay as f64) } else { "–".into() };
        println!("| {what} | {SERVICES} | {p50:.1} | {p99:.1} | {} | {} |", beyond(SLOWEST), beyond(IN_TURN));
    }
    running.process.kill().await?;
    Ok(())
}

/// Whether it quotes the reason for which tasks stopped, which only ECS's answers have.
fn is_diagnosed(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("CannotPullContainerError")
}

/// What ECS answers about a service whose new image does not exist.
fn answers(service: &str) -> [Value; 3] {
    let now = time::OffsetDateTime::now_utc();
    let at = |seconds: i64| {
        let time = now - time::Duration::seconds(seconds);
        time.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
    };
    let Ecs { account, region, cluster } = Ecs::default();
    let arn = |kind: &str, name: &str| format!("arn:aws:ecs:{region}:{account}:{kind}/{name}");
    let (cluster_arn, definition) = (arn("cluster", cluster), arn("task-definition", &format!("{service}:7")));
    let tasks: Vec<Value> = (0..3)
        .map(|task| {
            json!({
                "taskArn": arn("task", &format!("{cluster}/{service}-{task}")),
                "clusterArn": cluster_arn, "group": format!("service:{service}"), "taskDefinitionArn": definition,
                "desiredStatus": "STOPPED", "lastStatus": "STOPPED", "launchType": "FARGATE",
                "createdAt": at(300 - task), "stoppedAt": at(200 - task), "startedBy": "ecs-svc/7",
                "stopCode": "TaskFailedToStart",
                "stoppedReason": format!("CannotPullContainerError: failed to resolve ref {service}:latest: not found"),
                "containers": [{ "name": service, "lastStatus": "STOPPED" }],
            })
        })
        .collect();
    [
        json!({ "services": [{
            "serviceArn": arn("service", &format!("{cluster}/{service}")), "serviceName": service, "clusterArn": cluster_arn,
            "status": "ACTIVE", "desiredCount": 2, "runningCount": 0, "pendingCount": 1, "launchType": "FARGATE",
            "taskDefinition": definition, "events": [],
            "deployments": [{
                "id": "ecs-svc/7", "status": "PRIMARY", "taskDefinition": definition, "desiredCount": 2, "runningCount": 0,
                "pendingCount": 1, "failedTasks": 3, "rolloutState": "IN_PROGRESS", "createdAt": at(400), "updatedAt": at(200),
            }],
        }] }),
        json!({ "tasks": tasks }),
        json!({ "taskDefinition": {
            "taskDefinitionArn": definition, "family": service, "revision": 7,
            "containerDefinitions": [{ "name": service, "image": format!("{service}:latest"), "essential": true }],
        } }),
    ]
}
