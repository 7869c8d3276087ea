//! Service tags: routes by them, alerts that show them, and what happens if they cannot be read.

use std::{path::PathBuf, time::Duration};

use lab::{
    ecs::{Answer, EcsApi},
    events::Ecs,
    worker::Worker,
};
use serde_json::{Value, json};

use crate::world::{BINARY, LIMIT, World, metric_is, outcome_line, with};

/// The search team's channel takes the services with its tag, the platform's channel takes the rest.
async fn world(diagnose: &str) -> World {
    let world = World::new().await;
    let (search, platform) = (world.slack.url("search"), world.slack.url("platform"));
    let config = format!(
        "[diagnose]\n{diagnose}\n\
         [[channel]]\nname = 'search'\nwebhook_url = '{search}'\n[[channel]]\nname = 'platform'\nwebhook_url = '{platform}'\n\
         [[route]]\nchannel = 'search'\npattern = {{ service-tags = {{ team = ['search'] }} }}\n\
         [[route]]\nchannel = 'platform'\n"
    );
    world.config(&config)
}

async fn worker(world: &World) -> (EcsApi, Worker) {
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let worker = Worker::spawn(BINARY, with_ecs(world, &ecs), &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    (ecs, worker)
}

fn with_ecs(world: &World, ecs: &EcsApi) -> Vec<(String, String)> {
    world.environment().into_iter().chain(ecs.environment()).collect()
}

/// DescribeServices's answer about a healthy service with these tags.
fn described(service: &str, tags: &[(&str, &str)]) -> Value {
    let arn = |resource: &str| format!("arn:aws:ecs:eu-west-1:123456789012:{resource}");
    let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    json!({ "services": [{
        "serviceArn": arn(&format!("service/production/{service}")), "serviceName": service,
        "clusterArn": arn("cluster/production"), "desiredCount": 2, "runningCount": 2, "pendingCount": 0, "tags": tags,
        "deployments": [{ "id": "ecs-svc/1", "status": "PRIMARY", "taskDefinition": arn(&format!("task-definition/{service}:1")) }],
    }] })
}

async fn settle(world: &World, worker: &Worker, service: &str, event: Value) {
    world.queue.send_events(&[event]).await.unwrap();
    outcome_line(worker, service, "posted").await;
}

/// The channels that got a message about the service, in order.
fn channels(world: &World, service: &str) -> Vec<String> {
    world.slack.accepted().into_iter().filter(|request| request.mentions(service)).map(|it| it.webhook).collect()
}

async fn tags(worker: &Worker, outcome: &str, count: u32) {
    metric_is(worker, "service_tags_total", &[("outcome", outcome)], count.into()).await;
}

#[tokio::test]
async fn a_tag_routes_an_alert_and_its_recovery() {
    let world = world("tags = ['team', 'runbook', 'owner', 'Team']").await;
    let (ecs, worker) = worker(&world).await;
    for outcome in ["ok", "unknown", "denied", "throttled", "timeout", "error", "skipped"] {
        tags(&worker, outcome, 0).await;
    }
    let of_search = [
        ("team", "search"),
        ("runbook", "https://wiki.example.com/indexer?a=1&b=2"),
        ("owner", "<!channel> <https://evil.example|x>"),
    ];
    ecs.record(described("indexer", &of_search));
    ecs.record(described("checkout", &[("team", "shop"), ("Team", "search")]));
    for service in ["indexer", "checkout"] {
        settle(&world, &worker, service, Ecs::default().start_impaired(service)).await;
    }
    assert_eq!(
        (channels(&world, "*indexer*"), channels(&world, "*checkout*")),
        (vec!["search".into()], vec!["platform".into()])
    );
    world
        .posted(&[
            "team: search\nrunbook: <https://wiki.example.com/indexer?a=1&amp;b=2>\nowner: &lt;!channel&gt; &lt;https://evil.example|x&gt;",
            "team: shop\nTeam: search",
        ])
        .await;
    tags(&worker, "ok", 2).await;
    let asked = ecs.calls("DescribeServices");
    assert!(asked.len() == 2 && asked.iter().all(|call| call["include"] == json!(["TAGS"])), "{asked:?}");
    // A repeat does not ask ECS. A recovery that ECS confirms goes to the channel that has the problem.
    world.queue.send_events(&[Ecs::default().start_impaired("indexer")]).await.unwrap();
    outcome_line(&worker, "indexer", "folded").await;
    assert_eq!(ecs.calls("DescribeServices").len(), 2);
    world.queue.send_events(&[Ecs::default().steady_state("indexer")]).await.unwrap();
    world.posted(&["*indexer* has recovered"]).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(channels(&world, "*indexer*"), ["search"; 2]);
}

#[tokio::test]
async fn an_event_that_is_not_a_problem_needs_one_request_for_tags_that_decide_its_route() {
    let world = world("").await;
    let (ecs, worker) = worker(&world).await;
    ecs.record(described("indexer", &[("team", "search")]));
    ecs.record(described("checkout", &[]));
    // These services have no incident, so ECS is not asked whether they have recovered.
    let begun = |service| Ecs::default().deployment_begun(service);
    settle(&world, &worker, "indexer", begun("indexer")).await;
    world.queue.send_events(&[begun("checkout")]).await.unwrap();
    outcome_line(&worker, "checkout", "unrouted").await;
    world.queue.send_events(&[begun("indexer")]).await.unwrap();
    world.slack.wait_for(|requests| requests.len() == 2, LIMIT).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(channels(&world, "*indexer*"), ["search"; 2]);
    assert_eq!((ecs.calls("DescribeServices").len(), ecs.calls("ListTasks").len()), (2, 0));
    tags(&worker, "ok", 3).await;
}

#[tokio::test]
async fn tags_are_read_only_if_a_pattern_or_the_configuration_needs_them() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    ecs.record(described("indexer", &[("team", "search")]));
    settle(&world, &worker, "indexer", Ecs::default().start_impaired("indexer")).await;
    let asked = ecs.calls("DescribeServices");
    assert!(asked.len() == 1 && asked[0]["include"].is_null(), "{asked:?}");
    assert_eq!(world.posts_mentioning("team: "), 0);
}

#[tokio::test]
async fn if_tags_cannot_be_read_the_next_route_takes_the_alert() {
    let world = world("timeout = '500ms'\ntags = ['team']").await;
    let (ecs, worker) = worker(&world).await;
    let services = ["indexer", "ranker", "crawler", "suggester"];
    for service in services {
        ecs.record(described(service, &[("team", "search")]));
    }
    let impaired = |service| Ecs::default().start_impaired(service);
    ecs.script("DescribeServices", [Answer::Error(500, "ServerException"), Answer::Hang]);
    for (service, outcome) in [("indexer", "error"), ("ranker", "timeout"), ("never-heard-of", "unknown")] {
        settle(&world, &worker, service, impaired(service)).await;
        tags(&worker, outcome, 1).await;
        assert_eq!(channels(&world, &format!("*{service}*")), ["platform"]);
    }
    // If only the tags are refused, the rest of the diagnosis is still there.
    ecs.refuse_tags();
    for service in ["crawler", "suggester"] {
        settle(&world, &worker, service, impaired(service)).await;
        assert_eq!(channels(&world, &format!("*{service}*")), ["platform"]);
    }
    tags(&worker, "denied", 2).await;
    assert_eq!((world.posts_mentioning("How bad"), world.posts_mentioning("team: ")), (2, 0));
    let logged = |line: &lab::worker::Line| line.message().contains("lacks ecs:ListTagsForResource");
    assert_eq!(worker.lines().iter().filter(|line| logged(line)).count(), 1, "{worker}");

    let mut check = Worker::spawn(BINARY, with_ecs(&world, &ecs), &["check", "--live"]).unwrap();
    assert_eq!(check.wait(Duration::from_secs(20)).await.unwrap().code(), Some(0), "{check}");
    let warning = "may not ecs:ListTagsForResource on every cluster; for a cluster where it may not, no pattern that names service-tags matches";
    assert!(check.to_string().contains(warning), "{check}");
}

#[tokio::test]
async fn an_event_cannot_contain_tags_and_without_a_service_there_are_none() {
    let world = world("").await;
    let (ecs, worker) = worker(&world).await;
    ecs.record(described("checkout", &[("team", "shop")]));
    let mut forged = Ecs::default().start_impaired("checkout");
    forged["service-tags"] = json!({ "team": "search" });
    forged["service-tags.team"] = "search".into();
    settle(&world, &worker, "checkout", forged).await;
    let mut alone = json!({ "source": "my.app", "detail-type": "Something", "detail": { "name": "no-service" } });
    alone["service-tags"] = json!({ "team": "search" });
    world.queue.send_events(&[alone]).await.unwrap();
    world.slack.wait_for(|requests| requests.len() == 2, LIMIT).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    let accepted: Vec<String> = world.slack.accepted().into_iter().map(|request| request.webhook).collect();
    assert_eq!(accepted, ["platform", "platform"]);
}

#[tokio::test]
async fn render_routes_by_tags_offline_and_shows_them() {
    let world = world("tags = ['runbook']").await;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tags");
    std::fs::create_dir_all(&folder).unwrap();
    let runbook = ("runbook", "https://wiki.example.com/indexer");
    std::fs::write(folder.join("services.json"), described("indexer", &[("team", "search"), runbook]).to_string())
        .unwrap();
    let event = folder.join("event.txt");
    std::fs::write(&event, Ecs::default().start_impaired("indexer").to_string()).unwrap();
    let rendered = |environment: Vec<(String, String)>, more: &[&str]| {
        let mut render = std::process::Command::new(BINARY);
        render.env_clear().envs(environment).arg("render").args(more).arg(&event);
        let output = render.output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let line = rendered(world.environment(), &["--ecs-answers", folder.to_str().unwrap()]);
    assert_eq!(line["channel"], "search");
    assert!(line.to_string().contains("runbook: <https://wiki.example.com/indexer>"), "{line}");
    assert_eq!(rendered(world.environment(), &[])["channel"], "platform");
    // A pattern that needs tags is an error if ECS may not be asked.
    let config = world.environment().into_iter().find(|(name, _)| name == "CONFIG_CONTENT").unwrap().1;
    let config = config.replace("[diagnose]", "[diagnose]\nenabled = false");
    let environment = with(&world.environment(), &[("CONFIG_CONTENT", &config)]);
    let output = std::process::Command::new(BINARY).env_clear().envs(environment).arg("check").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && error.contains("diagnose.enabled: is false, but a pattern names"),
        "{error}"
    );
}
