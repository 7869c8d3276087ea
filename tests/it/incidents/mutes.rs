//! Mutes: which events are not posted, and which are.

use lab::events::Ecs;
use serde_json::Value;

use super::{ago, color, outcomes, utc};
use crate::world::{BINARY, World, metric_is, outcome, outcome_line};

fn mute(service: &str, from: i64, until: &str) -> String {
    format!(
        "[[mute]]\npattern = {{ resources = [{{ wildcard = '*/{service}' }}] }}\nfrom = '{}'\nuntil = '{until}'\n\
         reason = 'load test <!channel>'\n",
        utc(from)
    )
}

#[tokio::test]
async fn a_muted_alert_is_deleted_and_counted_and_the_next_alert_after_the_mute_opens_the_incident() {
    let config = format!("[diagnose]\nenabled = false\n{}", mute("sandbox", 600, &utc(300)));
    let world = World::new().await.config(&config);
    let worker = world.worker().await;
    let ecs = Ecs::default();
    // The time of the event decides, although the worker handles it after the end of the mute.
    world.queue.send_events(&[ago(ecs.start_impaired("sandbox"), 400)]).await.unwrap();
    let line = outcome_line(&worker, "sandbox", "muted").await;
    assert_eq!(line["reason"], "load test <!channel>", "{line}");
    world.queue.send_events(&[ago(ecs.start_impaired("checkout"), 400)]).await.unwrap();
    outcomes(&worker, "posted", 1).await;
    outcomes(&worker, "muted", 1).await;
    world.queue.send_events(&[ago(ecs.start_impaired("sandbox"), 10)]).await.unwrap();
    outcomes(&worker, "posted", 2).await;
    metric_is(&worker, "incidents_total", &[("channel", "default"), ("transition", "opened")], 2.0).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(world.posts_mentioning("load test"), 0, "the reason appears only in the log");
    metric_is(&worker, "unrouted_problems_total", &[("severity", "critical")], 0.0).await;
}

#[tokio::test]
async fn the_recovery_of_an_incident_that_began_before_a_mute_is_reported() {
    let config = format!("[diagnose]\nenabled = false\n{}", mute("*", 300, "forever"));
    let world = World::new().await.config(&config);
    let worker = world.worker().await;
    let ecs = Ecs::default();
    world.queue.send_events(&[ago(ecs.start_impaired("checkout"), 400)]).await.unwrap();
    outcomes(&worker, "posted", 1).await;
    world.queue.send_events(&[ago(ecs.placement_failure("checkout"), 200)]).await.unwrap();
    outcomes(&worker, "muted", 1).await;
    let ends = ["checkout", "unheard-of"].map(|service| ago(ecs.steady_state(service), 100));
    world.queue.send_events(&ends).await.unwrap();
    outcomes(&worker, "posted", 2).await;
    outcomes(&worker, "muted", 2).await;
    world.nothing_more_is_posted(&worker).await;
    let posts = world.slack.accepted();
    let colors: Vec<&str> = posts.iter().map(|post| color(&post.payload)).collect();
    assert_eq!(colors, ["danger", "good"]);
    assert!(posts[1].mentions("1 event"), "{}", posts[1].payload);
}

#[tokio::test]
async fn check_lists_mutes_run_logs_them_and_render_shows_muted_events() {
    let mutes = [mute("sandbox", 600, "forever"), mute("later", -600, &utc(-1200)), mute("old", 600, &utc(300))];
    let world = World::new().await.config(&mutes.concat());
    let (code, said) = outcome(world.environment(), &["check"]).await;
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "forever (load test <!channel>): holds now",
        "(load test <!channel>): begins later",
        "warning: mute[0].until: \"forever\" never ends",
        "warning: mute[2]: ",
        "has ended",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let worker = world.worker().await;
    for words in ["holds now", "begins later", "never ends", "has ended"] {
        worker.wait_for_line(|line| line.message().contains(words), crate::world::LIMIT).await.unwrap();
    }

    let event = Ecs::default().start_impaired("sandbox");
    let file = std::env::temp_dir().join(format!("{}.json", lab::unique("muted")));
    std::fs::write(&file, event.to_string()).unwrap();
    let mut render = std::process::Command::new(BINARY);
    let render = render.arg("render").arg(&file).envs(world.environment()).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let line: Value = serde_json::from_slice(&render.stdout).unwrap();
    assert_eq!((&line["outcome"], &line["payload"]), (&"muted".into(), &Value::Null), "{line}");
    assert!(line["why"].as_str().unwrap().starts_with("mute[0] from "), "{line}");
}
