//! Incidents of a channel that Slack refuses. They are reported in its fallback, and in the channel again once Slack accepts it.

use lab::{
    events::Ecs,
    slack::{Answer, web_api::Message},
};

use super::{CHANNEL, color, describe, described, eventually, fix, says, transitions, worker_and_ecs};
use crate::world::{World, metric_is};

/// The id of the fallback's Slack channel.
const FALLBACK: &str = "C0000000FALL";
const LINE: &str = "For #ops, which Slack refuses: is_archived";

/// Two channels of one bot; the second is the fallback of the first.
async fn two_channels() -> World {
    let world = super::bot_world("").await;
    let text = world.environment().into_iter().find(|(name, _)| name == "CONFIG_CONTENT").unwrap().1;
    let (name, config) = (world.name.clone(), format!("{text}\nfallback = 'backup'\n"));
    world.config(&format!(
        "{config}[[channel]]\nname = 'backup'\nbot_token_secret_id = '{name}'\nchannel_id = '{FALLBACK}'\n[[route]]\nchannel = 'ops'\n"
    ))
}

fn in_channel(world: &World, channel: &str) -> Vec<Message> {
    world.slack.messages(channel)
}

async fn send(world: &World, event: serde_json::Value) {
    world.queue.send_events(&[event]).await.unwrap();
}

#[tokio::test]
async fn an_incident_moves_to_the_fallback_and_back_and_its_recovery_reaches_both() {
    let world = two_channels().await;
    let (worker, ecs) = worker_and_ecs(&world).await;
    describe(&ecs, described("checkout", 88, "IN_PROGRESS", 0));
    world.slack.always(CHANNEL, Answer::Status(200, "is_archived"));
    send(&world, Ecs::default().start_impaired("checkout")).await;
    world.nothing_more_is_posted(&worker).await;
    let root = in_channel(&world, FALLBACK).remove(0);
    assert!(root.mentions(LINE) && root.mentions("checkout"), "{root:?}");
    metric_is(&worker, "fallback_active", &[("channel", "ops")], 1.0).await;

    // A repeat is counted in the fallback's root, which keeps its line about #ops.
    send(&world, Ecs::default().start_impaired("checkout")).await;
    eventually("the root counts two events", || {
        in_channel(&world, FALLBACK).iter().any(|root| says(&root.payload, "2 events") && root.mentions(LINE))
    })
    .await;
    world.nothing_more_is_posted(&worker).await;

    // Slack accepts the channel again. The next news opens a root there, as soon as an attempt is due.
    world.slack.always(CHANNEL, Answer::Judge);
    let mut news = vec![Ecs::default().deployment_failed("checkout"), Ecs::default().rollback("checkout")];
    news.extend([Ecs::default().image_missing("checkout"), Ecs::default().no_route("checkout")]);
    for event in news {
        if !in_channel(&world, CHANNEL).is_empty() {
            break;
        }
        send(&world, event).await;
        world.nothing_more_is_posted(&worker).await;
    }
    let news = in_channel(&world, CHANNEL).remove(0);
    assert!(news.thread_ts.is_none() && !news.mentions("For #ops") && says(&news.payload, "events since"), "{news:?}");
    metric_is(&worker, "fallback_active", &[("channel", "ops")], 0.0).await;

    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    for channel in [CHANNEL, FALLBACK] {
        let messages = in_channel(&world, channel);
        let roots: Vec<_> = messages.iter().filter(|message| message.thread_ts.is_none()).collect();
        assert_eq!(roots.len(), 1, "{messages:?}");
        assert_eq!(color(&roots[0].payload), "good", "{messages:?}");
        let ends = messages.iter().filter(|message| message.thread_ts.is_some() && color(&message.payload) == "good");
        assert_eq!(ends.count(), 1, "{messages:?}");
    }
    transitions(&worker, "ops", &[("opened", 1), ("recovered", 1), ("reopened", 0)]).await;
    transitions(&worker, "backup", &[("opened", 0), ("recovered", 0)]).await;
}

#[tokio::test]
async fn the_recovery_of_an_incident_that_only_the_fallback_has_is_posted_only_there() {
    let world = two_channels().await;
    let (worker, ecs) = worker_and_ecs(&world).await;
    describe(&ecs, described("checkout", 88, "IN_PROGRESS", 0));
    world.slack.always(CHANNEL, Answer::Status(200, "is_archived"));
    send(&world, Ecs::default().start_impaired("checkout")).await;
    world.queue_is_empty().await;
    world.slack.always(CHANNEL, Answer::Judge);
    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    let messages = in_channel(&world, FALLBACK);
    assert_eq!(messages.iter().map(|message| color(&message.payload)).collect::<Vec<_>>(), ["good", "good"]);
    assert_eq!(in_channel(&world, CHANNEL), []);
    transitions(&worker, "ops", &[("opened", 1), ("recovered", 1)]).await;
}

#[tokio::test]
async fn news_and_recovery_go_to_the_fallback_after_the_channel_is_archived() {
    let world = two_channels().await;
    let (worker, ecs) = worker_and_ecs(&world).await;
    describe(&ecs, described("checkout", 88, "IN_PROGRESS", 0));
    send(&world, Ecs::default().start_impaired("checkout")).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!(in_channel(&world, CHANNEL).len(), 1);
    world.slack.always(CHANNEL, Answer::Status(200, "is_archived"));
    send(&world, Ecs::default().deployment_failed("checkout")).await;
    world.nothing_more_is_posted(&worker).await;
    let messages = in_channel(&world, FALLBACK);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].mentions(LINE) && messages[0].thread_ts.is_none(), "{messages:?}");
    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    let messages = in_channel(&world, FALLBACK);
    assert!(messages.iter().all(|message| color(&message.payload) == "good"), "{messages:?}");
    transitions(&worker, "ops", &[("opened", 1), ("news", 1), ("recovered", 1)]).await;
    metric_is(&worker, "messages_total", &[("outcome", "deferred")], 0.0).await;
}

#[tokio::test]
async fn by_webhook_the_recovery_reaches_both_channels() {
    let world = World::new().await;
    let channel = |name: &str| format!("[[channel]]\nname = '{name}'\nwebhook_url = '{}'\n", world.slack.url(name));
    let config = format!("{}fallback = 'backup'\n{}[[route]]\nchannel = 'ops'\n", channel("ops"), channel("backup"));
    let world = world.config(&config);
    let (worker, ecs) = worker_and_ecs(&world).await;
    describe(&ecs, described("checkout", 88, "IN_PROGRESS", 0));
    let posts = |webhook: &str, green: bool| {
        let is_it = |post: &lab::slack::Request| post.webhook == webhook && (color(&post.payload) == "good") == green;
        world.slack.accepted().into_iter().filter(is_it).count()
    };
    world.slack.always("ops", Answer::Status(410, "channel_is_archived"));
    send(&world, Ecs::default().start_impaired("checkout")).await;
    world.nothing_more_is_posted(&worker).await;
    assert_eq!((posts("ops", false), posts("backup", false)), (0, 1));
    world.slack.always("ops", Answer::Judge);
    let news = [Ecs::default().deployment_failed("checkout"), Ecs::default().rollback("checkout")];
    for event in news.into_iter().chain([Ecs::default().image_missing("checkout"), Ecs::default().no_route("checkout")])
    {
        if posts("ops", false) == 0 {
            send(&world, event).await;
            world.nothing_more_is_posted(&worker).await;
        }
    }
    assert_eq!(posts("ops", false), 1);
    world.queue.send_events(&fix(&ecs, "checkout")).await.unwrap();
    world.nothing_more_is_posted(&worker).await;
    assert_eq!((posts("ops", true), posts("backup", true)), (1, 1));
    transitions(&worker, "ops", &[("opened", 1), ("recovered", 1), ("reopened", 0)]).await;
}
