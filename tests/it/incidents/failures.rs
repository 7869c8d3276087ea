//! Requests that Slack's Web API refuses. The bot token stays secret.

use lab::{
    events::Ecs,
    slack::{
        Answer, Method,
        web_api::{AUTH, EDITS, INFO, READ_TOKEN, TOKEN, VALIDATE},
    },
    worker::Worker,
};

use super::{CHANNEL, bot_world, bot_world_with_token, eventually, outcomes, roots, says};
use crate::world::{BINARY, World, metric_is, outcome};

const NO_DIAGNOSIS: &str = "[diagnose]\nenabled = false";

async fn send(world: &World, service: &str) {
    world.queue.send_events(&[Ecs::default().start_impaired(service)]).await.unwrap();
}

#[tokio::test]
async fn a_post_that_fails_at_slack_is_tried_again() {
    let world = bot_world(NO_DIAGNOSIS).await;
    let worker = world.worker().await;
    let answers = ["internal_error", "service_unavailable", "fatal_error"].map(|code| Answer::Status(200, code));
    world.slack.script(CHANNEL, answers);
    send(&world, "checkout").await;
    outcomes(&worker, "posted", 1).await;
    let server_errors = [("channel", "ops"), ("outcome", "server_error")];
    metric_is(&worker, "slack_requests_total", &server_errors, 3.0).await;
    outcomes(&worker, "deferred", 0).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(roots(&world).len(), 1);
    metric_is(&worker, "channel_blocked", &[("channel", "ops")], 0.0).await;
}

#[tokio::test]
async fn a_revoked_token_blocks_the_channel_until_the_secret_holds_another() {
    let world = bot_world(NO_DIAGNOSIS).await;
    // The worker starts with this token, which Slack refuses.
    world.aws.update_secret(&world.name, "xoxb-000000000000-revoked").await.unwrap();
    let worker = world.worker().await;
    world.slack.script(CHANNEL, [Answer::Status(200, "token_revoked")]);
    send(&world, "checkout").await;
    metric_is(&worker, "channel_blocked", &[("channel", "ops")], 1.0).await;
    world.aws.update_secret(&world.name, TOKEN).await.unwrap();
    outcomes(&worker, "posted", 1).await;
    metric_is(&worker, "channel_blocked", &[("channel", "ops")], 0.0).await;
    let warnings = worker.lines();
    assert!(warnings.iter().any(|line| line.text.contains("token_revoked")), "{worker}");
    assert!(warnings.iter().any(|line| line.text.contains("its secret was rotated")), "{worker}");
    assert!(!worker.to_string().contains("xoxb-"), "{worker}");
}

#[tokio::test]
async fn an_edit_that_slack_refuses_is_tried_again() {
    let world = bot_world(NO_DIAGNOSIS).await;
    let worker = world.worker().await;
    send(&world, "checkout").await;
    outcomes(&worker, "posted", 1).await;
    world.slack.script(EDITS, [Answer::Status(200, "internal_error"), Answer::Status(200, "token_expired")]);
    send(&world, "checkout").await;
    eventually("the edit is made", || roots(&world)[0].edits == 1).await;
    outcomes(&worker, "posted", 2).await;
    assert!(says(&roots(&world)[0].payload, "2 events"));
}

#[tokio::test]
async fn blocks_that_slack_refuses_are_posted_as_plain_text() {
    let world = bot_world(NO_DIAGNOSIS).await;
    let worker = world.worker().await;
    world.slack.always(CHANNEL, Answer::RefuseBlocksWith("checkout".into()));
    send(&world, "checkout").await;
    send(&world, "billing").await;
    outcomes(&worker, "posted", 2).await;
    let checkout = roots(&world).into_iter().find(|root| says(&root.payload, "checkout")).unwrap();
    assert!(checkout.payload["attachments"].is_null() && checkout.payload["blocks"].is_null(), "{checkout:?}");
    let billing = roots(&world).into_iter().find(|root| says(&root.payload, "billing")).unwrap();
    assert!(!billing.payload["attachments"].is_null(), "{billing:?}");
}

#[tokio::test]
async fn check_live_names_the_bot_and_the_scopes_that_it_lacks() {
    let world = bot_world("").await;
    let (code, said) = outcome(world.environment(), &["check", "--live"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("channel ops: its bot token is that of ecs-alerts in Lab"), "{said}");
    assert!(said.contains("is unknown without the scope channels:read"), "{said}");
    assert!(said.contains("channel ops: Slack finds an alert valid"), "{said}");
    let asked = world.slack.requests();
    assert!(asked.iter().all(|request| request.method == Method::Auth) && asked.len() == 1, "{asked:?}");

    world.slack.script(AUTH, [Answer::Status(200, "account_inactive")]);
    let (code, said) = outcome(world.environment(), &["check", "--live"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("\"ops\"") && said.contains("account_inactive") && !said.contains("xoxb-"), "{said}");

    let world = bot_world_with_token("", READ_TOKEN).await;
    let (code, said) = outcome(world.environment(), &["check", "--live"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("\"ops\"") && said.contains("lacks the scope chat:write"), "{said}");
    assert!(!said.contains("xoxb-"), "{said}");
}

#[tokio::test]
async fn check_live_says_why_a_question_to_slack_has_no_answer() {
    let world = bot_world("").await;
    let check = async |question: &str, answer: Answer| {
        world.slack.script(question, [answer]);
        let (code, said) = outcome(world.environment(), &["check", "--live"]).await;
        assert!(!said.contains("xoxb-"), "{said}");
        (code, said)
    };
    for (answer, reason) in [
        (Answer::Reset, "Slack not reached"),
        (Answer::Status(503, "service_unavailable"), "Slack answered"),
        (Answer::Status(200, "<html>"), "is a proxy in the way?"),
        (Answer::Status(200, r#"{"ok":true,"channel":{}}"#), "is a proxy in the way?"),
        (Answer::Status(429, "ratelimited"), "Slack rate limited"),
        (Answer::Status(200, "channel_not_found"), "Slack refused the question: channel_not_found"),
    ] {
        let (code, said) = check(INFO, answer).await;
        assert_eq!(code, Some(0), "{said}");
        let unknown = said.lines().find(|line| line.contains("membership of the bot is unknown")).unwrap_or_default();
        assert!(unknown.contains("\"ops\"") && unknown.contains(reason) && !unknown.contains("scope"), "{said}");
    }
    let scoped = r#"{"ok":false,"error":"missing_scope","needed":"groups:read,im:read","provided":"chat:write"}"#;
    let (_, said) = check(INFO, Answer::Status(200, scoped)).await;
    assert!(said.contains("channel ops: membership of the bot is unknown without the scope groups:read\n"), "{said}");

    let (code, said) = check(VALIDATE, Answer::Reset).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"ops\": Slack did not validate an alert: Slack not reached"), "{said}");
    let (_, said) = check(VALIDATE, Answer::Status(200, "invalid_blocks")).await;
    assert!(said.contains("\"ops\": Slack finds an alert not valid: invalid_blocks"), "{said}");

    // Without an answer the token may be good, so the configuration is not at fault.
    let (code, said) = check(AUTH, Answer::Status(503, "service_unavailable")).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("\"ops\": its bot token could not be checked: Slack answered"), "{said}");
}

#[tokio::test]
async fn the_bot_token_reaches_neither_the_log_nor_the_metrics() {
    let world = bot_world(NO_DIAGNOSIS).await;
    let mut environment = world.environment();
    environment.push(("RUST_LOG".into(), "trace".into()));
    let worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    world.slack.script(
        CHANNEL,
        [
            Answer::Reset,
            Answer::Status(200, "<html>"),
            Answer::Status(200, "invalid_auth"),
            Answer::Status(500, "fatal_error"),
        ],
    );
    send(&world, "checkout").await;
    outcomes(&worker, "posted", 1).await;
    send(&world, "checkout").await;
    outcomes(&worker, "posted", 2).await;
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    let secret = TOKEN.strip_prefix("xoxb-").unwrap();
    assert!(!metrics.contains(secret));
    for line in worker.lines() {
        assert!(!line.text.contains(secret), "{}", line.text);
    }
}
