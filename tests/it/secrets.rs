//! Secrets in the forms in which people store them, at start and after a rotation.

use lab::{
    events::Ecs,
    fault::{Fault, FaultyAws},
    slack::Answer,
};

use crate::world::{LIMIT, World, outcome, with};

#[tokio::test]
async fn a_webhook_is_found_in_each_form_that_the_console_stores() {
    let world = World::new().await;
    let url = world.slack.url(&world.name);
    for secret in [
        format!(r#"{{"url":"{url}"}}"#),
        format!("{{\n  \"SLACK_WEBHOOK_URL\": \"{url}\",\n  \"channel\": \"#alerts\"\n}}\n"),
        format!("\"{url}\"\n"),
        format!("\u{feff}{url}\u{200b}"),
    ] {
        world.aws.update_secret(&world.name, &secret).await.unwrap();
        let (code, said) = outcome(world.environment(), &["check", "--live"]).await;
        assert_eq!(code, Some(0), "{secret}: {said}");
    }
    let worker = world.worker().await;
    world.queue.send_events(&[Ecs::default().start_impaired("bom")]).await.unwrap();
    world.posted(&["bom"]).await;
    drop(worker);
}

#[tokio::test]
async fn a_key_selects_one_of_several_webhooks() {
    let world = World::new().await;
    let secret = format!(r#"{{"other":"{}","mine":"{}"}}"#, world.slack.url("other"), world.slack.url("mine"));
    world.aws.update_secret(&world.name, &secret).await.unwrap();
    let (code, said) = outcome(world.environment(), &["run"]).await;
    assert_eq!(code, Some(2), "{said}");
    for part in [world.name.as_str(), r#""mine", "other""#, "webhook_secret_key"] {
        assert!(said.contains(part) || said.replace('\\', "").contains(part), "{said} lacks {part}");
    }
    let name = world.name.clone();
    let channel = format!("[[channel]]\nname = 'a'\nwebhook_secret_id = '{name}'\nwebhook_secret_key = ");
    let world = world.config(&format!("{channel}'mine'"));
    let _worker = world.worker().await;
    world.queue.send_events(&[Ecs::default().start_impaired("chosen")]).await.unwrap();
    world.posted(&["chosen"]).await;
    assert_eq!(world.slack.requests()[0].webhook, "mine");
    let world = world.config(&format!("{channel}'missing'"));
    let (code, said) = outcome(world.environment(), &["check", "--live"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("missing") && said.contains("mine"), "{said}");
}

#[tokio::test]
async fn a_secret_with_other_content_is_described_without_showing_it() {
    let world = World::new().await;
    for (secret, found) in [
        (r#"{"username":"opensesame","password":"opensesame"}"#, r#"JSON with the keys "password", "username""#),
        ("xoxb-1-2-opensesame", "a Slack bot token"),
        ("https://hooks.slack.com/services/T/B/opensesame\nhttps://hooks.slack.com/services/T/B/opensesame", "2 lines"),
        ("WEBHOOK=https://hooks.slack.com/services/T/B/opensesame", "NAME=value"),
        ("https://evil.example/opensesame", "\"evil.example\" is not allowed"),
        ("https://hooks.slack.com/", "its path is missing"),
        ("[\"opensesame\"]", "a JSON array"),
    ] {
        world.aws.update_secret(&world.name, secret).await.unwrap();
        let slack = ("SLACK_ALLOWED_HOSTS", "127.0.0.1,hooks.slack.com");
        for command in [&["run"][..], &["check", "--live"]] {
            let (code, said) = outcome(with(&world.environment(), &[slack]), command).await;
            assert_eq!(code, Some(2), "{secret}: {said}");
            assert!(said.contains(found) && said.contains(&world.name), "{secret}: {said}");
            assert!(!said.contains("opensesame"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_rotated_secret_may_be_json_and_a_bad_one_is_described() {
    let world = World::new().await;
    let worker = world.worker().await;
    world.slack.always(&world.name, Answer::Status(404, "no_service"));
    world.aws.update_secret(&world.name, r#"{"user":"opensesame"}"#).await.unwrap();
    world.queue.send_events(&[Ecs::default().start_impaired("moved")]).await.unwrap();
    let described = |line: &lab::worker::Line| {
        line.json["level"] == "ERROR"
            && line.field("error").as_str().is_some_and(|e| e.contains("JSON with the key \"user\""))
    };
    worker.wait_for_line(described, LIMIT).await.unwrap();
    let secret = format!(r#"{{"url":"{}"}}"#, world.slack.url("rotated"));
    world.aws.update_secret(&world.name, &secret).await.unwrap();
    world.posted(&["moved"]).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.slack.accepted()[0].webhook, "rotated");
    assert!(!worker.to_string().contains("opensesame"), "{worker}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_ends_the_start_at_once() {
    let world = World::new().await;
    let proxy = FaultyAws::start(&world.aws).await.unwrap();
    let mut environment = world.environment();
    environment.extend(proxy.environment());
    for (code, said_of_it) in [
        // A secret that is marked for deletion.
        ("InvalidRequestException", "InvalidRequestException"),
        ("AccessDeniedException", "needs secretsmanager:GetSecretValue"),
        ("DecryptionFailure", "DecryptionFailure"),
    ] {
        proxy.always("GetSecretValue", Fault::Error(400, code));
        let (code, said) = outcome(environment.clone(), &["run"]).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(said_of_it) && said.contains(&world.name), "{said}");
    }
}
