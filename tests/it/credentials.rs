//! Credentials from an endpoint. The endpoint may fail, and credentials may expire earlier than they say.

use std::time::{Duration, Instant};

use lab::{
    credentials::{Answer, Credentials},
    events::Ecs,
    fault::{Call, Fault, FaultyAws},
    slack,
    worker::Worker,
};

use crate::world::{BINARY, LIMIT, World, outcome, with};

/// A worker whose credentials come from `credentials`, and whose requests go through `proxy`.
fn environment(world: &World, proxy: &FaultyAws, credentials: &Credentials) -> Vec<(String, String)> {
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    environment.extend(credentials.environment());
    environment
}

fn signed_with<'a>(calls: &'a [Call], token: &str) -> Vec<&'a Call> {
    calls.iter().filter(|call| call.token.as_deref() == Some(token)).collect()
}

#[tokio::test]
async fn expired_credentials_are_fetched_again_at_once() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let credentials = Credentials::start("first").await.unwrap();
    let worker = Worker::spawn(BINARY, environment(&world, &proxy, &credentials), &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    let receives = |calls: &[Call], token: &str| {
        signed_with(calls, token).iter().filter(|call| call.operation == "ReceiveMessage").count()
    };
    proxy.wait_for(|calls| receives(calls, "first") > 0, LIMIT).await.unwrap();
    assert_eq!(credentials.asked(), 1, "one set of credentials for every client");
    // According to their expiration time, the first ones are valid for six hours.
    credentials.give("second");
    proxy.expire("first");
    proxy.wait_for(|calls| receives(calls, "second") > 0, LIMIT).await.unwrap();
    world.queue.send_events(&[Ecs::default().start_impaired("renewed")]).await.unwrap();
    world.posted(&["renewed"]).await;
    world.queue_is_empty().await;
    assert_eq!(credentials.asked(), 2, "{worker}");
}

#[tokio::test]
async fn a_secret_is_read_again_at_once_after_its_credentials_expired() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let credentials = Credentials::start("first").await.unwrap();
    let worker = Worker::spawn(BINARY, environment(&world, &proxy, &credentials), &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    world.slack.always(&world.name, slack::Answer::Status(404, "no_service"));
    world.aws.update_secret(&world.name, &world.slack.url("rotated")).await.unwrap();
    credentials.give("second");
    proxy.script("GetSecretValue", [Fault::Error(400, "ExpiredTokenException")]);
    world.queue.send_events(&[Ecs::default().start_impaired("moved")]).await.unwrap();
    world.posted(&["moved"]).await;
    world.nothing_more_is_posted(&worker).await;
    let tokens: Vec<_> = proxy.calls("GetSecretValue").into_iter().filter_map(|call| call.token).collect();
    assert_eq!(tokens, ["first", "first", "second"], "at start; refused; at once with fresh ones");
    assert_eq!(world.slack.requests().len(), 2, "the channel did not have to wait\n{worker}");
}

#[tokio::test]
async fn credentials_that_aws_does_not_accept_any_more_are_fetched_again() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let credentials = Credentials::start("first").await.unwrap();
    let worker = Worker::spawn(BINARY, environment(&world, &proxy, &credentials), &["run"]).unwrap();
    worker.wait_ready().await.unwrap();
    let received = |token: &'static str| {
        move |calls: &[Call]| signed_with(calls, token).iter().any(|call| call.operation == "ReceiveMessage")
    };
    proxy.wait_for(received("first"), LIMIT).await.unwrap();
    for (number, code) in
        ["InvalidClientTokenId", "UnrecognizedClientException", "com.amazonaws#ExpiredToken"].iter().enumerate()
    {
        let token: &'static str = ["second", "third", "fourth"][number];
        credentials.give(token);
        proxy.script("ReceiveMessage", [Fault::Error(403, code)]);
        proxy.wait_for(received(token), LIMIT).await.unwrap();
    }
    // After another error they are not fetched again.
    proxy.script("ReceiveMessage", [Fault::Error(400, "AccessDeniedException"), Fault::Error(500, "InternalFailure")]);
    let logged =
        |line: &lab::worker::Line| line.field("error").as_str().is_some_and(|e| e.contains("AWS server error"));
    worker.wait_for_line(logged, LIMIT).await.unwrap();
    assert_eq!(credentials.asked(), 4);
}

#[tokio::test]
async fn the_worker_survives_an_endpoint_for_credentials_that_fails_at_start() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let survived = async |answer: Answer| {
        let credentials = Credentials::start("good").await.unwrap();
        // The SDK itself asks up to three times.
        credentials.script(std::iter::repeat_n(answer.clone(), 3));
        let worker = Worker::spawn(BINARY, environment(&world, &proxy, &credentials), &["run"]).unwrap();
        let ready = async || Ok(worker.get("/readyz").await?.0 == 200);
        lab::eventually(&format!("ready after {answer:?}"), LIMIT, ready).await.unwrap();
        let logged = |line: &lab::worker::Line| {
            line.json["level"] == "WARN" && line.text.contains("the AWS credentials cannot be fetched")
        };
        assert!(worker.lines().iter().any(logged), "{answer:?}: {worker}");
    };
    tokio::join!(
        survived(Answer::Status(429)),
        survived(Answer::Status(500)),
        survived(Answer::Reset),
        survived(Answer::Hang),
    );
}

/// Takes a minute, because the worker gives up after that time.
#[tokio::test]
async fn an_endpoint_for_credentials_that_stays_down_ends_the_start_after_a_minute_with_1() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let failing = async |answer: Answer| {
        let credentials = Credentials::start("never").await.unwrap();
        credentials.always(answer.clone());
        let begun = Instant::now();
        let mut worker = Worker::spawn(BINARY, environment(&world, &proxy, &credentials), &["run"]).unwrap();
        let status = worker.wait(Duration::from_secs(110)).await.unwrap();
        assert_eq!(status.code(), Some(1), "{answer:?}: {worker}");
        assert!(begun.elapsed() > Duration::from_secs(40), "{answer:?}: {:?}", begun.elapsed());
        let last = worker.lines().last().unwrap().text.clone();
        assert!(last.contains("the AWS credentials cannot be fetched"), "{answer:?}: {last}");
    };
    tokio::join!(failing(Answer::Status(500)), failing(Answer::Hang));
    assert_eq!(proxy.calls("ReceiveMessage").len(), 0);
}

#[tokio::test]
async fn without_any_credentials_the_worker_ends_at_once_with_2() {
    let world = World::new().await;
    let none = with(&world.environment(), &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")]);
    let (code, said) = outcome(none, &["run"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no valid AWS credentials"), "{said}");
}

#[tokio::test]
async fn with_credentials_that_aws_refuses_the_worker_ends_at_once_with_2() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    for operation in ["GetQueueAttributes", "GetSecretValue"] {
        proxy.always(operation, Fault::Error(403, "UnrecognizedClientException"));
    }
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    let (code, said) = outcome(environment, &["run"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("UnrecognizedClientException") || said.contains("does not accept the credentials"), "{said}");
}
