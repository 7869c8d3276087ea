//! Diagnoses: realistic failures, with recorded answers of ECS and with live ones, and every way in which ECS may fail to answer.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use lab::{
    ecs::{Answer, EcsApi},
    events::Ecs,
    worker::Worker,
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::world::{BINARY, LIMIT, World, metric_is, outcome_line, with};

struct Scenario {
    folder: &'static str,
    service: &'static str,
    cause: &'static str,
    words: &'static [&'static str],
}

const SCENARIOS: [Scenario; 15] = [
    Scenario {
        folder: "missing_image",
        service: "checkout",
        cause: "image_missing",
        words: &[
            "*Why:* Image not found — 4 of the last 5 tasks",
            "checkout:1.4.2-rc is not in the registry",
            "> CannotPullContainerError: pull image manifest",
            "Also: Network interface not provisioned (1 task)",
            "*What changed:* checkout:87 → checkout:88, deployed <!date^",
            "registered by deploy/ci-4711",
            "• app image: 1.4.1 → 1.4.2-rc",
            "• app environment: changed LOG_LEVEL; added FEATURE_FLAGS",
            "*How bad:* 2 of 2 tasks running, 1 pending · rollout in progress, 5 failed · the circuit breaker will roll it back",
            "|Stopped task>",
        ],
    },
    Scenario {
        folder: "ecr_denied",
        service: "billing",
        cause: "iam",
        words: &[
            "> ECS deployment circuit breaker: tasks failed to start.",
            "*Why:* IAM permission missing — 3 of the last 3 tasks",
            "Role billing-exec-v2 lacks ecr:GetAuthorizationToken",
            "billing:88, rolled back to billing:87",
            "• execution role: billing-execution → billing-exec-v2",
            "rollout failed and was rolled back",
        ],
    },
    Scenario {
        folder: "missing_secret",
        service: "mailer",
        cause: "secret_missing",
        words: &[
            "Secret or parameter not found — 6 of the last 6 tasks",
            "mailer/smtp-Ab12Cd was not found",
            "• app environment: removed SMTP_PASSWORD",
            "• app secrets: added SMTP_PASSWORD",
            "no circuit breaker: ECS tries on and on",
        ],
    },
    Scenario {
        folder: "missing_log_group",
        service: "search",
        cause: "log_config",
        words: &[
            "Log configuration broken",
            "/ecs/search-v2",
            "• app log configuration: changed",
            "without a rollback",
        ],
    },
    Scenario {
        folder: "no_route",
        service: "reports",
        cause: "network",
        words: &[
            "Network unreachable — 4 of the last 4 tasks",
            "could not reach Amazon ECR",
            "*Deployed:* reports:1, <!date^",
            "0 of 2 tasks running",
            "there is nothing to go back to",
        ],
    },
    Scenario {
        folder: "out_of_memory",
        service: "imageresizer",
        cause: "oom",
        words: &[
            "is crash-looping: 3 exits in 6 min, exit code 137",
            "Out of memory — 3 of the last 3 tasks",
            "• memory: 2048 → 1024",
            "1 of 2 tasks running",
        ],
    },
    Scenario {
        folder: "crash_on_start",
        service: "api",
        cause: "crash",
        words: &[
            "*api* is crash-looping: 5 exits in 4 min, exit code 1",
            "Container crashed — 5 of the last 5 tasks",
            "exited with code 1",
            "• app environment: removed DATABASE_URL",
            "• app command: changed",
            "*Its last words:*\n> starting api 1.4.2\n> panicked at src/main.rs:12: DATABASE_URL is not set &lt;!channel&gt;",
            "#logsV2:log-groups/log-group/$252Fecs$252Fapi/log-events/ecs$252Fapp$252F",
        ],
    },
    Scenario {
        folder: "failed_health_check",
        service: "storefront",
        cause: "health_check_lb",
        words: &[
            "keeps failing its health checks: 3 tasks stopped in 8 min",
            "Load balancer health check failed — 3 of the last 3 tasks",
            "• app port mappings: changed",
            "due to (reason Health checks failed with these codes: [502]).\nTarget group storefront: answered 502, 200 is expected, GET /health on 8080 · 1 of 3 targets",
        ],
    },
    Scenario {
        folder: "no_capacity",
        service: "batchworker",
        cause: "capacity",
        words: &[
            "No capacity to place the task",
            "> (service batchworker) was unable to place",
            "4 of 6 tasks running",
        ],
    },
    Scenario {
        folder: "wrong_architecture",
        service: "tracker",
        cause: "architecture",
        words: &[
            "Image for another platform — 2 of the last 2 tasks",
            "• runtime platform: LINUX/ARM64 → LINUX/X86_64",
        ],
    },
    Scenario {
        folder: "linear_crashing",
        service: "ledger",
        cause: "crash",
        words: &[
            "*What changed:* ledger:87 → ledger:88",
            "linear deployment in progress, stage production traffic shift, 20 % of the production traffic on the new revision",
            " · circuit breaker 3 of 5, then ECS will roll it back",
        ],
    },
    Scenario {
        folder: "canary_alarm",
        service: "payments",
        cause: "",
        words: &[
            "*Deployed:* payments:87",
            "canary deployment failed and was rolled back · alarm payments-5xx went off",
            "> Service deployment rolled back because of CloudWatch alarms: payments-5xx.",
        ],
    },
    Scenario {
        folder: "blue_green_hook",
        service: "orders",
        cause: "",
        words: &[
            "*What changed:* orders:88, rolled back to orders:87",
            "blue/green deployment being rolled back, stage post test traffic shift, 0 % of the production traffic on the new revision",
            "hook check-orders failed",
            "> Service deployment rolled back because POST_TEST_TRAFFIC_SHIFT lifecycle hook(s) failed.",
        ],
    },
    Scenario {
        folder: "completed_early",
        service: "catalog",
        cause: "crash",
        words: &[
            "*What changed:* catalog:87 → catalog:88",
            "the deployment has completed: ECS does not roll it back any more",
        ],
    },
    Scenario {
        folder: "code_deploy",
        service: "invoices",
        cause: "crash",
        words: &[
            "Container crashed — 5 of the last 5 tasks",
            "*What changed:* invoices:87 → invoices:88",
            "deployed by CodeDeploy (d-8LU3AT2SJ): this task set serves no production traffic, 0 of its 2 tasks running, not steady",
        ],
    },
];

impl Scenario {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/answers").join(self.folder)
    }

    fn event(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path().join("event.json")).unwrap()).unwrap()
    }

    /// What `render` prints for it.
    fn rendered(&self, config: &str) -> Value {
        let mut render = Command::new(BINARY);
        render
            .env_clear()
            .env("CONFIG_CONTENT", config)
            .arg("render")
            .arg("--ecs-answers")
            .arg(self.path())
            .arg(self.path().join("event.json"));
        serde_json::from_slice(&render.output().unwrap().stdout).unwrap()
    }
}

/// A worker that asks a stand-in for ECS, which knows every scenario.
async fn worker(world: &World) -> (EcsApi, Worker) {
    let ecs = EcsApi::start(&SCENARIOS.each_ref().map(Scenario::path)).await.unwrap();
    let mut environment = world.environment();
    environment.extend(ecs.environment());
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    (ecs, worker)
}

async fn diagnoses(worker: &Worker, outcome: &str, count: u32) {
    metric_is(worker, "diagnoses_total", &[("outcome", outcome)], count.into()).await;
}

#[test]
fn render_shows_the_diagnosis_from_recorded_answers() {
    for scenario in &SCENARIOS {
        let line = scenario.rendered("");
        assert_eq!(line["cause"].as_str().unwrap_or_default(), scenario.cause, "{}", scenario.folder);
        let blocks = line["payload"]["attachments"][0]["blocks"].as_array().unwrap();
        let texts = blocks.iter().map(|block| block["text"]["text"].as_str().or(block["elements"][0]["text"].as_str()));
        let text = texts.map(Option::unwrap).collect::<Vec<_>>().join("\n");
        for words in scenario.words {
            assert!(text.contains(words), "{}: {words:?} is not in\n{text}", scenario.folder);
        }
        assert!(!line.to_string().contains("not-for-slack"), "{}: {line}", scenario.folder);
    }
}

#[tokio::test]
async fn a_live_alert_is_the_same_as_one_from_recorded_answers() {
    // The recorded tasks stopped too long ago for a live worker to count them as a crash loop.
    let config = "[diagnose]\nlog_lines = 10\ncrash_loop.enabled = false";
    let world = World::new().await.config(config);
    let (ecs, worker) = worker(&world).await;
    for scenario in &SCENARIOS {
        world.queue.send_events(&[scenario.event()]).await.unwrap();
        outcome_line(&worker, scenario.service, "posted").await;
        let posted = world.slack.accepted().pop().unwrap().payload;
        assert_eq!(posted, scenario.rendered(config)["payload"], "{}", scenario.folder);
    }
    diagnoses(&worker, "ok", 15).await;
    let asked = &ecs.calls("DescribeServices")[0];
    assert_eq!(asked["cluster"], "arn:aws:ecs:eu-west-1:123456789012:cluster/production");
}

#[tokio::test]
async fn no_value_of_a_containers_environment_gets_into_the_log_not_even_from_the_sdk() {
    let world = World::new().await;
    let ecs = EcsApi::start(&[SCENARIOS[0].path()]).await.unwrap();
    let mut environment = world.environment();
    environment.extend(ecs.environment());
    environment.push(("RUST_LOG".into(), "trace".into()));
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    world.queue.send_events(&[SCENARIOS[0].event()]).await.unwrap();
    outcome_line(&worker, "checkout", "posted").await;
    world.posted(&["4 of the last 5 tasks"]).await;
    assert!(!worker.to_string().contains("not-for-slack"), "{worker}");
}

#[tokio::test]
async fn check_live_names_what_the_role_may_not_ask() {
    let world = World::new().await;
    let ecs = EcsApi::start(&SCENARIOS.each_ref().map(Scenario::path)).await.unwrap();
    let denied = [
        ("DescribeTaskDefinition", "ecs:DescribeTaskDefinition"),
        ("ListServiceDeployments", "ecs:ListServiceDeployments"),
        ("DescribeTargetHealth", "elasticloadbalancing:DescribeTargetHealth"),
    ];
    for (operation, _) in denied {
        let code = if operation == "DescribeTargetHealth" { "AccessDenied" } else { "AccessDeniedException" };
        ecs.always(operation, Answer::Error(403, code));
    }
    let environment = world.environment().into_iter().chain(ecs.environment());
    let mut check = Worker::spawn(BINARY, environment, &["check", "--live"]).unwrap();
    assert_eq!(check.wait(Duration::from_secs(20)).await.unwrap().code(), Some(0), "{check}");
    let warnings: Vec<String> =
        check.lines().into_iter().map(|line| line.text).filter(|line| line.contains("warning")).collect();
    assert_eq!(warnings.len(), 3, "{check}");
    for (_, action) in denied {
        assert!(warnings.iter().any(|warning| warning.contains(action)), "{check}");
    }
}

#[tokio::test]
async fn a_missing_permission_removes_its_part_of_the_diagnosis_and_is_logged_once() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    ecs.always("ListTasks", Answer::Error(400, "AccessDeniedException"));
    for scenario in &SCENARIOS[..3] {
        world.queue.send_events(&[scenario.event()]).await.unwrap();
        outcome_line(&worker, scenario.service, "posted").await;
    }
    diagnoses(&worker, "partial", 3).await;
    assert_eq!(world.posts_mentioning("*checkout* is unable to consistently start tasks successfully"), 1);
    assert_eq!((world.posts_mentioning("of the last"), world.posts_mentioning("How bad")), (0, 3));
    ecs.always("DescribeServices", Answer::Error(400, "AccessDeniedException"));
    world.queue.send_events(&[SCENARIOS[3].event()]).await.unwrap();
    outcome_line(&worker, SCENARIOS[3].service, "posted").await;
    diagnoses(&worker, "denied", 1).await;
    assert_eq!(world.posts_mentioning("How bad"), 3);
    for action in ["ecs:ListTasks", "ecs:DescribeServices"] {
        let lacks = format!("lacks {action}");
        let logged = worker.lines().into_iter().filter(|line| line.message().contains(&lacks)).count();
        assert_eq!(logged, 1, "{worker}");
    }
}

#[tokio::test]
async fn missing_optional_permissions_cost_only_their_part_of_the_diagnosis() {
    let world = World::new().await.config("[diagnose]\ncrash_loop.enabled = false");
    let (ecs, worker) = worker(&world).await;
    let unhealthy = SCENARIOS.iter().find(|scenario| scenario.folder == "failed_health_check").unwrap();
    for operation in ["DescribeTargetHealth", "DescribeTargetGroups"] {
        ecs.always(operation, Answer::Error(403, "AccessDenied"));
    }
    ecs.always("ListServiceDeployments", Answer::Error(400, "AccessDeniedException"));
    world.queue.send_events(&[unhealthy.event()]).await.unwrap();
    world.posted(&["3 of the last 3 tasks", "these codes: [502]", "app port mappings", "How bad"]).await;
    assert_eq!(world.posts_mentioning("Target group storefront"), 0);
    diagnoses(&worker, "partial", 1).await;
}

#[tokio::test]
async fn a_load_balancer_that_hangs_costs_only_its_answer() {
    let config = "[diagnose]\ntimeout = \"1s\"\ncrash_loop.enabled = false";
    let world = World::new().await.config(config);
    let (ecs, worker) = worker(&world).await;
    let unhealthy = SCENARIOS.iter().find(|scenario| scenario.folder == "failed_health_check").unwrap();
    ecs.always("DescribeTargetHealth", Answer::Hang);
    world.queue.send_events(&[unhealthy.event()]).await.unwrap();
    // The load balancer answered in time what the health check expects. The answer that the check got is from ECS's event.
    let words = ["Target group storefront: answered 502, 200 is expected, GET /health on 8080\n", "app port mappings"];
    world.posted(&words.map(|words| words.trim_end())).await;
    diagnoses(&worker, "partial", 1).await;
}

#[tokio::test]
async fn stopped_tasks_are_read_to_the_last_page() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    ecs.page(2);
    world.queue.send_events(&[SCENARIOS[0].event()]).await.unwrap();
    world.posted(&["4 of the last 5 tasks", "Also: Network interface not provisioned (1 task)"]).await;
    diagnoses(&worker, "ok", 1).await;
    assert_eq!((ecs.calls("ListTasks").len(), ecs.calls("DescribeTasks").len()), (3, 3));
}

#[tokio::test]
async fn without_the_task_definitions_the_rest_is_still_reported() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    ecs.always("DescribeTaskDefinition", Answer::Error(400, "AccessDeniedException"));
    world.queue.send_events(&[SCENARIOS[0].event()]).await.unwrap();
    world.posted(&["4 of the last 5 tasks", "checkout:87 → checkout:88", "How bad"]).await;
    assert_eq!(world.posts_mentioning("app image"), 0);
    diagnoses(&worker, "partial", 1).await;
}

/// Events of a service's tasks that exited with 1 these minutes ago. ECS still knows the tasks.
fn exits(ecs: &EcsApi, service: &str, minutes_ago: &[i64]) -> Vec<Value> {
    let arn = |resource: &str| format!("arn:aws:ecs:eu-west-1:123456789012:{resource}");
    let task_definition = arn(&format!("task-definition/{service}:42"));
    ecs.record(json!({ "services": [{
        "serviceName": service, "clusterArn": arn("cluster/production"), "desiredCount": 1, "runningCount": 0,
        "deployments": [{ "id": "ecs-svc/1", "status": "PRIMARY", "taskDefinition": task_definition }],
    }] }));
    let exit = |minutes: &i64| {
        let at = (OffsetDateTime::now_utc() - time::Duration::minutes(*minutes)).format(&Rfc3339).unwrap();
        let mut event = Ecs::default().essential_container_exited(service, 1);
        for pointer in ["/time", "/detail/stoppedAt", "/detail/createdAt"] {
            *event.pointer_mut(pointer).unwrap() = at.as_str().into();
        }
        event["detail"]["startedBy"] = "ecs-svc/1".into();
        ecs.record(json!({ "tasks": [event["detail"]] }));
        event
    };
    minutes_ago.iter().map(exit).collect()
}

#[tokio::test]
async fn a_crash_loop_is_one_alert_with_any_number_of_replicas() {
    let world = World::new().await;
    let ecs = EcsApi::start::<PathBuf>(&[]).await.unwrap();
    let events = exits(&ecs, "looper", &[8, 7, 5, 4, 1]);
    // Without a table, each replica would report the loop of which it receives an event.
    let table = lab::unique("incidents");
    world.aws.create_table(&table).await.unwrap();
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut environment = with(&world.environment(), &[("INCIDENTS_TABLE", &table)]);
        environment.extend(ecs.environment());
        let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
        worker.wait_ready().await.unwrap();
        workers.push(worker);
    }
    // One request for each message, so that both replicas receive some.
    for event in events.iter().rev() {
        world.queue.send_events(std::slice::from_ref(event)).await.unwrap();
    }
    world.posted(&["*looper* is crash-looping: 5 exits in 7 min, exit code 1"]).await;
    for worker in &workers {
        world.nothing_more_is_posted(worker).await;
    }
    assert_eq!(world.posts_mentioning("looper"), 1);
    assert!(world.slack.accepted()[0].mentions("5 of the last 5 tasks"));
}

#[tokio::test]
async fn a_single_exit_is_routine_and_goes_only_where_a_pattern_asks_for_it() {
    let config = r#"
        [[channel]]
        name = "problems"
        webhook_url = "URL/problems"
        [[channel]]
        name = "everything"
        webhook_url = "URL/everything"
        [[route]]
        channel = "everything"
        pattern = { detail-type = ["ECS Task State Change"], detail = { group = ["service:watched"] } }
        [[route]]
        channel = "problems"
    "#;
    let world = World::new().await;
    let config = config.replace("URL/problems", &world.slack.url("problems"));
    let config = config.replace("URL/everything", &world.slack.url("everything"));
    let world = world.config(&config);
    let (ecs, worker) = worker(&world).await;
    for (service, outcome) in [("unwatched", "unrouted"), ("watched", "posted")] {
        world.queue.send_events(&exits(&ecs, service, &[1])).await.unwrap();
        outcome_line(&worker, service, outcome).await;
    }
    world.nothing_more_is_posted(&worker).await;
    assert_eq!((world.posts_mentioning("unwatched"), world.slack.accepted().len()), (0, 1));
}

#[tokio::test]
async fn an_exit_that_cannot_be_judged_is_an_alert() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    // The message waited so long that ECS no longer knows the other stopped tasks.
    world.queue.send_events(&exits(&ecs, "late", &[60])).await.unwrap();
    outcome_line(&worker, "late", "posted").await;
    ecs.always("DescribeTasks", Answer::Error(400, "ThrottlingException"));
    world.queue.send_events(&exits(&ecs, "unknowable", &[1])).await.unwrap();
    outcome_line(&worker, "unknowable", "posted").await;
    world.posted(&["*unknowable* task stopped: essential container 'app' exited with code 1"]).await;
}

#[tokio::test]
async fn an_exit_is_an_alert_if_more_tasks_stopped_than_are_read() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    ecs.page(1);
    let events = exits(&ecs, "crowded", &[55, 44, 33, 22, 11, 0]);
    world.queue.send_events(&events[5..]).await.unwrap();
    outcome_line(&worker, "crowded", "posted").await;
    assert_eq!(ecs.calls("ListTasks").len(), 5);
}

#[tokio::test]
async fn a_cached_answer_is_used_for_every_task_that_ecs_knew_however_many_stopped_later() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    ecs.page(100);
    let minutes: Vec<i64> = [40, 30, 20].into_iter().chain([1; 100]).collect();
    let events = exits(&ecs, "crowded", &minutes);
    for (index, event) in events[..3].iter().enumerate() {
        world.queue.send_events(std::slice::from_ref(event)).await.unwrap();
        metric_is(&worker, "messages_total", &[("outcome", "unrouted")], index as f64 + 1.0).await;
    }
    assert_eq!(ecs.calls("DescribeServices").len(), 1);
}

#[tokio::test]
async fn exits_that_arrive_one_by_one_become_one_crash_loop_alert() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    for _ in 0..2 {
        world.queue.send_events(&exits(&ecs, "dripping", &[0])).await.unwrap();
    }
    let unrouted = [("outcome", "unrouted")];
    metric_is(&worker, "messages_total", &unrouted, 2.0).await;
    world.queue.send_events(&exits(&ecs, "dripping", &[0])).await.unwrap();
    world.posted(&["*dripping* is crash-looping: 3 exits in "]).await;
}

#[tokio::test]
async fn a_log_is_read_only_if_configured_and_a_failure_costs_only_the_log() {
    let crash = &SCENARIOS[6];
    for (log_lines, expected) in [(0, 0), (2, 1)] {
        let world = World::new().await.config(&format!("[diagnose]\nlog_lines = {log_lines}"));
        let (ecs, worker) = worker(&world).await;
        ecs.always("GetLogEvents", Answer::Error(400, "AccessDeniedException"));
        world.queue.send_events(&[crash.event()]).await.unwrap();
        world.posted(&["5 of the last 5 tasks"]).await;
        assert_eq!(world.posts_mentioning("last words"), 0);
        let asked = ecs.calls("GetLogEvents");
        assert_eq!(asked.len(), expected);
        assert!(asked.iter().all(|call| call["limit"] == log_lines && call["logGroupName"] == "/ecs/api"), "{asked:?}");
        diagnoses(&worker, if log_lines == 0 { "ok" } else { "partial" }, 1).await;
    }
}

#[tokio::test]
async fn if_ecs_throttles_fails_or_does_not_know_the_service_the_alert_has_no_diagnosis() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    ecs.script(
        "DescribeServices",
        [Answer::Error(400, "ThrottlingException"), Answer::Error(500, "ServerException"), Answer::Recorded],
    );
    for (service, outcome) in [("slow-down", "throttled"), ("out-of-order", "error"), ("never-heard-of", "unknown")] {
        world.queue.send_events(&[Ecs::default().start_impaired(service)]).await.unwrap();
        outcome_line(&worker, service, "posted").await;
        diagnoses(&worker, outcome, 1).await;
    }
}

#[tokio::test]
async fn an_alert_does_not_wait_for_an_ecs_that_hangs() {
    let world = World::new().await.config("[diagnose]\ntimeout = \"500ms\"");
    let (ecs, worker) = worker(&world).await;
    for (hanging, service, outcome, diagnosed) in
        [("DescribeTasks", &SCENARIOS[0], "partial", 1), ("DescribeServices", &SCENARIOS[1], "timeout", 1)]
    {
        ecs.always(hanging, Answer::Hang);
        let begun = Instant::now();
        world.queue.send_events(&[service.event()]).await.unwrap();
        outcome_line(&worker, service.service, "posted").await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        diagnoses(&worker, outcome, 1).await;
        assert_eq!(world.posts_mentioning("How bad"), diagnosed);
    }
}

#[tokio::test]
async fn a_stopping_worker_does_not_wait_for_ecs() {
    let world = World::new().await.config("[diagnose]\ntimeout = \"30s\"\n[queue]\nvisibility_timeout = \"2m\"");
    let (ecs, mut worker) = worker(&world).await;
    ecs.always("DescribeServices", Answer::Hang);
    world.queue.send_events(&[SCENARIOS[0].event()]).await.unwrap();
    lab::eventually("ECS is asked", LIMIT, async || Ok(!ecs.calls("DescribeServices").is_empty())).await.unwrap();
    worker.terminate().await.unwrap();
    assert!(worker.wait(Duration::from_secs(10)).await.unwrap().success(), "{worker}");
    assert_eq!(world.posts_mentioning("*checkout* is unable"), 1);
}

/// Requests one after the other would delay the alert.
#[tokio::test]
async fn task_definitions_are_requested_without_waiting_for_the_tasks() {
    let world = World::new().await.config("[diagnose]\ntimeout = \"30s\"");
    let (ecs, _worker) = worker(&world).await;
    ecs.always("ListTasks", Answer::Hang);
    world.queue.send_events(&[SCENARIOS[0].event()]).await.unwrap();
    let requested = async || Ok(ecs.calls("DescribeTaskDefinition").len() == 2);
    lab::eventually("both task definitions are requested", Duration::from_secs(10), requested).await.unwrap();
    assert!(ecs.calls("DescribeTasks").is_empty());
}

#[tokio::test]
async fn many_alerts_of_a_service_ask_once() {
    let world = World::new().await;
    let (ecs, worker) = worker(&world).await;
    let events: Vec<Value> = (0..20).map(|_| Ecs::default().start_impaired("checkout")).collect();
    world.queue.send_events(&events).await.unwrap();
    diagnoses(&worker, "ok", 20).await;
    assert_eq!(ecs.calls("DescribeServices").len(), 1);
    assert_eq!(ecs.calls("DescribeTaskDefinition").len(), 2);
}

#[tokio::test]
async fn sections_of_a_digest_carry_the_cause_in_a_few_words() {
    let world = World::new().await;
    let (_ecs, worker) = worker(&world).await;
    world.slack.script(&world.name, std::iter::repeat_n(lab::slack::Answer::Status(500, "x"), 2));
    let folders = ["missing_image", "missing_secret", "wrong_architecture"];
    let events: Vec<Value> =
        SCENARIOS.iter().filter(|scenario| folders.contains(&scenario.folder)).map(Scenario::event).collect();
    world.queue.send_events(&events).await.unwrap();
    world.posted(&["successfully — Image not found\n", "successfully — Secret or parameter not found\n"]).await;
    diagnoses(&worker, "ok", 3).await;
}

#[tokio::test]
async fn a_disabled_diagnosis_asks_nothing() {
    let world = World::new().await.config("[diagnose]\nenabled = false");
    let (ecs, worker) = worker(&world).await;
    world.queue.send_events(&[SCENARIOS[0].event()]).await.unwrap();
    outcome_line(&worker, "checkout", "posted").await;
    assert!(ecs.calls("DescribeServices").is_empty());
}
