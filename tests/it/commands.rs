//! The commands as a person runs them: what they print, and their exit codes.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Output, Stdio},
    time::Duration,
};

use lab::{
    events::Ecs,
    fault::{Fault, FaultyAws},
    unique,
    worker::Worker,
};
use serde_json::Value;

use crate::world::{BINARY, World, outcome, with};

pub fn run(arguments: &[&str], environment: &[(String, String)], input: &str) -> Output {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_good_configuration_passes_check_and_check_live() {
    let world = World::new().await;
    let output = run(&["check"], &world.environment(), "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = run(&["check", "--live"], &world.environment(), "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("warning"), "{}", stderr(&output));
    assert_eq!(world.slack.requests().len(), 0, "check posts nothing");
}

#[tokio::test]
async fn check_live_brings_no_message_nearer_to_the_dead_letter_queue() {
    let world = World::with(1, None).await;
    world.queue.send_events(&[Ecs::default().start_impaired("waiting")]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(run(&["check", "--live"], &world.environment(), "").status.code(), Some(0));
    }
    let stored = world.queue.messages().await.unwrap();
    assert_eq!((stored.len(), stored[0].receive_count), (1, 0));
}

#[tokio::test]
async fn check_live_warns_of_a_small_max_receive_count() {
    let world = World::with(3, None).await;
    let output = run(&["check", "--live"], &world.environment(), "");
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("maxReceiveCount is 3"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_wrong_queue_secret_or_region_is_refused_at_start_in_one_clear_message() {
    let world = World::new().await;
    let missing = world.queue.url.replace(&world.name, "no-such-queue");
    let evil = unique("evil");
    world.aws.create_secret(&evil, "https://evil.example/services/T0/B0/opensesame").await.unwrap();
    for (more, expected) in [
        (("QUEUE_URL", missing.as_str()), vec![missing.as_str(), "the queue does not exist"]),
        (("SLACK_WEBHOOK_SECRET_ID", "no-such-secret"), vec!["\"no-such-secret\"", "ResourceNotFoundException"]),
        (("SLACK_WEBHOOK_SECRET_ID", &evil), vec![&evil, "\"evil.example\" is not allowed", "127.0.0.1"]),
        (("AWS_REGION", ""), vec!["AWS_REGION"]),
    ] {
        for command in [&["run"][..], &["check", "--live"]] {
            let mut worker = Worker::spawn(BINARY, with(&world.environment(), &[more]), command).unwrap();
            let status = worker.wait(Duration::from_secs(20)).await.unwrap();
            assert_eq!(status.code(), Some(2), "{more:?}: {worker}");
            let said: String = worker.lines().into_iter().map(|line| line.text + "\n").collect();
            for part in &expected {
                assert!(said.contains(part), "{more:?}: {said} lacks {part}");
            }
            assert!(!said.contains("opensesame"), "{said}");
        }
    }
}

#[tokio::test]
async fn an_invalid_region_or_one_other_than_the_queues_is_refused() {
    let world = World::new().await;
    let elsewhere = "https://sqs.us-east-1.amazonaws.com/123456789012/q";
    for (more, parts) in [
        (vec![("AWS_REGION", "nonsense")], ["AWS_REGION", "\"nonsense\""]),
        (vec![("AWS_REGION", "")], ["AWS_REGION", "eu-west-1"]),
        (vec![("AWS_ENDPOINT_URL", ""), ("QUEUE_URL", elsewhere)], ["us-east-1", "eu-west-1"]),
    ] {
        for command in [&["check"][..], &["check", "--live"], &["run"], &["dlq", "list"]] {
            let (code, said) = outcome(with(&world.environment(), &more), command).await;
            assert_eq!(code, Some(2), "{more:?} {command:?}: {said}");
            assert!(parts.iter().all(|part| said.replace('\\', "").contains(part)), "{more:?} {command:?}: {said}");
        }
    }
    // With an endpoint in the environment, the region in the queue's URL does not matter.
    let (code, said) = outcome(with(&world.environment(), &[("QUEUE_URL", elsewhere)]), &["check"]).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_key_that_the_role_may_not_use_is_named_with_its_permission() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    proxy.always("ReceiveMessage", Fault::Error(400, "KmsAccessDenied"));
    for command in [&["run"][..], &["check", "--live"]] {
        let (code, said) = outcome(environment.clone(), command).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("kms:Decrypt") && !said.contains("sqs:ReceiveMessage"), "{said}");
    }
}

#[test]
fn bad_usage_and_bad_configuration_exit_with_2() {
    let needed = [("QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/q"), ("SLACK_WEBHOOK_SECRET_ID", "x")];
    for (arguments, environment, expected) in [
        (vec!["fly"], vec![], "fly"),
        (vec![], vec![], "Usage"),
        (vec!["run", "--config", "/nowhere.toml"], vec![], "/nowhere.toml"),
        (vec!["run"], vec![], "QUEUE_URL"),
        (vec!["run"], vec![needed[0]], "SLACK_WEBHOOK_SECRET_ID"),
        (vec!["check"], vec![needed[0], needed[1], ("CONFIG_CONTENT", "[queue]\npollers = 0")], "queue.pollers"),
        (vec!["check"], vec![needed[0], ("SLACK_WEBHOOK_URL", "http://hooks.slack.com/services/x")], "https://"),
        (vec!["render"], vec![("CONFIG_CONTENT", "nonsense = 1")], "nonsense"),
        (
            vec!["run"],
            vec![
                needed[0],
                (
                    "CONFIG_CONTENT",
                    "channel = [{ name = 'a', webhook_url = 'https://hooks.slack.com/services/T/B/x' }]",
                ),
            ],
            "channel[0].webhook_url: holds a webhook's URL",
        ),
        (vec!["run"], vec![needed[0], needed[1], ("SHUTDOWN_GRACE", "1 fortnight")], "SHUTDOWN_GRACE"),
    ] {
        let output = run(&arguments, &with(&[], &environment), "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {environment:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"));
    }
}

#[test]
fn render_prints_what_would_be_posted_and_needs_no_configuration() {
    let ecs = Ecs::default();
    let events = [ecs.start_impaired("api"), ecs.steady_state("api"), ecs.image_missing("web")];
    let input = format!("[{},{},{}]", events[0], events[1], events[2]);
    let output = run(&["render"], &[], &input);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines = lines(&output);
    let column = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(column("outcome"), ["post", "unrouted", "post"]);
    assert_eq!(column("severity"), ["critical", "info", "critical"]);
    assert_eq!(column("cause"), [Value::Null, Value::Null, "image_missing".into()]);
    assert_eq!(column("event_id"), events.map(|event| event["id"].clone()));
    assert_eq!(column("channel"), ["default".into(), Value::Null, "default".into()]);
    assert!(lines[0]["payload"]["attachments"].is_array());
    assert!(lines[1]["payload"].is_null());
}

#[test]
fn render_reports_what_it_cannot_decode_and_goes_on() {
    let good = Ecs::default().start_impaired("api").to_string();
    let output = run(&["render", "-"], &[], &format!("{good}\nnot json\n[1]\n"));
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    assert_eq!(lines.iter().map(|line| &line["outcome"]).collect::<Vec<_>>(), ["post", "undecodable", "undecodable"]);
    assert!(lines[1]["error"].is_string());
    let output = run(&["render", "/nowhere.json"], &[], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere.json"));
}

#[test]
fn render_and_send_take_every_record_and_all_json() {
    let ecs = Ecs::default();
    let record = |name: &str| serde_json::json!({ "messageId": name, "body": ecs.start_impaired(name).to_string() });
    let records = serde_json::json!({ "Records": [record("one"), record("two")] });
    let deep = format!("{{\"text\":1e999,\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let output = run(&["render"], &[], &format!("{records}\n[{deep}]"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines = lines(&output);
    assert_eq!(lines.iter().map(|line| &line["outcome"]).collect::<Vec<_>>(), ["post", "post", "post"]);
    assert!(lines[1]["payload"].to_string().contains("two is unable"), "{}", lines[1]);
}

/// Each event has a megabyte. The output for one is read before the next is written, and all of them together need the memory of one.
#[test]
#[cfg(target_os = "linux")]
fn render_prints_as_it_reads_and_holds_one_event_at_a_time() {
    for begin in ["", "["] {
        let mut child = Command::new(BINARY)
            .arg("render")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        input.write_all(begin.as_bytes()).unwrap();
        let mut event = Ecs::default().start_impaired("streamed");
        event["detail"]["filler"] = "x".repeat(1 << 20).into();
        let event = event.to_string() + if begin.is_empty() { "\n" } else { ",\n" };
        let mut peaks = Vec::new();
        for _ in 0..40 {
            input.write_all(event.as_bytes()).unwrap();
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert!(line.contains("streamed is unable"), "{line}");
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let peak =
                status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim_end_matches("kB").trim();
            peaks.push(peak.parse::<u32>().unwrap());
        }
        drop(input);
        child.wait().unwrap();
        assert!(peaks[39] < peaks[4] + 8 * 1024, "{peaks:?}");
    }
}

#[tokio::test]
async fn send_posts_what_render_shows() {
    let slack = lab::slack::Slack::start().await.unwrap();
    let environment = with(&[], &[("SLACK_WEBHOOK_URL", &slack.url("laptop")), ("SLACK_ALLOWED_HOSTS", "127.0.0.1")]);
    let event = Ecs::default().image_missing("web").to_string();
    let rendered = lines(&run(&["render"], &environment, &event));
    let output = tokio::task::spawn_blocking(move || run(&["send"], &environment, &event)).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(slack.accepted()[0].payload, rendered[0]["payload"]);
    assert_eq!(lines(&output)[0]["outcome"], "posted");
}

#[tokio::test]
async fn send_fails_if_slack_does_not_accept_the_alert() {
    let slack = lab::slack::Slack::start().await.unwrap();
    slack.always("laptop", lab::slack::Answer::Status(404, "no_service"));
    let environment = with(
        &[],
        &[
            ("SLACK_WEBHOOK_URL", &slack.url("laptop")),
            ("SLACK_ALLOWED_HOSTS", "127.0.0.1"),
            ("CONFIG_CONTENT", "[queue]\nvisibility_timeout = '2s'"),
        ],
    );
    let event = Ecs::default().image_missing("web").to_string();
    let output = tokio::task::spawn_blocking(move || run(&["send"], &environment, &event)).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(lines(&output)[0]["outcome"], "failed");
    assert!(lines(&output)[0]["error"].as_str().unwrap().contains("no_service"));
}

#[tokio::test]
async fn health_exits_with_0_for_a_healthy_worker_and_with_1_without_one() {
    let world = World::new().await;
    let worker = world.worker().await;
    let address = worker.url("").await.unwrap().replace("http://127.0.0.1", "0.0.0.0");
    let health = |address: String| run(&["health"], &with(&[], &[("LISTEN_ADDR", &address)]), "");
    let output = health(address);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // No process listens on the discard port.
    let output = health("127.0.0.1:9".into());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("127.0.0.1:9"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_valid_setting_that_is_probably_a_mistake_is_a_warning_of_check_and_run() {
    let world = World::new().await;
    let channels = ["search", "platform", "unused"].map(|name| {
        let url = world.slack.url(name);
        format!("[[channel]]\nname = '{name}'\nwebhook_url = '{url}'\n")
    });
    let world = world.config(&format!(
        "[queue]\nvisibility_timeout = '5s'\n{}\
         [[route]]\nchannel = 'platform'\n\
         [[route]]\nchannel = 'search'\npattern = {{ resources = [{{ wildcard = '*:service/search-*/*' }}] }}\n\
         [[route]]\nchannel = 'search'\n",
        channels.concat()
    ));
    let expected = [
        "queue.visibility_timeout: 5s leaves alerts little time",
        "route[1]: takes only events that are not problems",
        "route[2]: never takes an event: route[0]",
        "channel: no [[route]] leads to \"unused\"",
    ];
    let output = run(&["check"], &world.environment(), "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    let warnings: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("warning: ")).collect();
    assert_eq!(warnings.len(), expected.len(), "{said}");
    let worker = world.worker().await;
    for (expected, warning) in expected.iter().zip(&warnings) {
        assert!(warning.starts_with(expected), "{said} lacks {expected}");
        let logged = worker.wait_for_line(|line| line.message() == *warning, Duration::from_secs(1)).await.unwrap();
        assert_eq!(logged.json["level"], "WARN");
    }
    assert!(!said.contains("/services/"), "{said}");
}

#[test]
fn help_names_the_variables_that_matter() {
    for arguments in [&["--help"][..], &["-h"], &["run", "--help"], &["check", "--help"]] {
        let output = run(arguments, &[], "");
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for name in ["QUEUE_URL", "SLACK_WEBHOOK_SECRET_ID", "CONFIG_FILE", "CONFIG_CONTENT", "RUST_LOG", "README.md"] {
            assert!(said.contains(name), "{arguments:?}: {said} lacks {name}");
        }
        // A file can name the queue and the channels, too.
        let required: Vec<&str> = said.lines().filter(|line| line.contains("required")).collect();
        assert!(required.is_empty(), "{arguments:?}: {required:?}");
        let is_program = arguments.len() == 1;
        assert_eq!(said.starts_with(env!("CARGO_PKG_DESCRIPTION")), is_program, "{arguments:?}: {said}");
    }
}
