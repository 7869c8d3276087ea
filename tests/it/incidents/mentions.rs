//! Mentions: only a message that opens or escalates an incident mentions somebody, and only once. The text of an event mentions nobody.

use lab::{
    events::Ecs,
    slack::{Answer, web_api::EDITS},
};
use serde_json::Value;

use super::{CHANNEL, bot_world, eventually, outcomes, replies, roots};
use crate::world::{LIMIT, World, metric_is};

const GROUP: &str = "<!subteam^S0123456789>";

/// How many mentions in Slack's markup the payload has.
fn mentions(payload: &Value) -> usize {
    let text = payload.to_string();
    ["<!", "<@"].iter().map(|markup| text.replace("<!date^", "").matches(markup).count()).sum()
}

async fn webhook_world(channel: &str, rest: &str) -> World {
    let world = World::new().await;
    let url = world.slack.url("ops");
    world.config(&format!(
        "{rest}\n[diagnose]\nenabled = false\n[[channel]]\nname = 'ops'\nwebhook_url = '{url}'\n{channel}\n"
    ))
}

#[tokio::test]
async fn by_webhook_an_incident_mentions_when_it_opens_and_when_it_escalates() {
    let world = webhook_world(&format!("mention = '{GROUP}'\nmention_from = 'warning'"), "").await;
    let worker = world.worker().await;
    let ecs = Ecs::default();
    // A warning opens the incident; a critical event escalates it, and a second one repeats it; another cause is news of equal severity;
    // the service recovers.
    let story = [
        (ecs.rollback("checkout"), "posted", 1, Some(1)),
        (ecs.start_impaired("checkout"), "posted", 2, Some(1)),
        (ecs.start_impaired("checkout"), "folded", 1, None),
        (ecs.placement_failure("checkout"), "posted", 3, Some(0)),
        (ecs.steady_state("checkout"), "posted", 4, Some(0)),
    ];
    for (event, outcome, count, mentioned) in story {
        world.queue.send_events(&[event]).await.unwrap();
        outcomes(&worker, outcome, count).await;
        if let Some(mentioned) = mentioned {
            let posts = world.slack.accepted();
            let last = &posts.last().unwrap().payload;
            assert_eq!(mentions(last), mentioned, "{last}");
            // The mention must be in the top-level text: Slack notifies by it, and not by an attachment.
            assert_eq!(last["text"].as_str().unwrap().ends_with(GROUP), mentioned == 1, "{last}");
        }
    }
    world.nothing_more_is_posted(&worker).await;
    let all: usize = world.slack.accepted().iter().map(|post| mentions(&post.payload)).sum();
    assert_eq!(all, 2);
}

#[tokio::test]
async fn by_bot_token_the_root_and_a_reply_that_escalates_mention_but_no_edit() {
    let world = bot_world("[diagnose]\nenabled = false").await;
    let config = world.environment().into_iter().find(|(name, _)| name == "CONFIG_CONTENT").unwrap().1;
    let world = world.config(&format!("{config}\nmention = '<!here>'"));
    let worker = world.worker().await;
    let ecs = Ecs::default();
    for (number, event) in (1..).zip([ecs.rollback("checkout"), ecs.start_impaired("checkout")]) {
        world.queue.send_events(&[event]).await.unwrap();
        outcomes(&worker, "posted", number).await;
    }
    eventually("the root was edited", || roots(&world).iter().any(|root| root.edits > 0)).await;
    let [root] = &roots(&world)[..] else { panic!("{:?}", roots(&world)) };
    assert_eq!(mentions(&root.payload), 0, "a warning, then an edit: {root:?}");
    let [reply] = &replies(&world, root)[..] else { panic!("{:?}", replies(&world, root)) };
    assert_eq!(mentions(&reply.payload), 1, "{reply:?}");
    assert!(reply.broadcast, "Slack notifies a channel only of what is shown in it: {reply:?}");

    world.queue.send_events(&[ecs.start_impaired("search")]).await.unwrap();
    outcomes(&worker, "posted", 3).await;
    let second = roots(&world).into_iter().find(|root| root.mentions("search")).unwrap();
    assert!(second.payload["text"].as_str().unwrap().ends_with("<!here>"), "{second:?}");
}

#[tokio::test]
async fn a_route_overrides_the_mention_and_the_text_of_an_event_mentions_nobody() {
    let routes = "incidents = { enabled = false }\n\
                  [[route]]\nchannel = 'ops'\nmention = ''\npattern = { resources = [{ wildcard = '*quiet*' }] }\n\
                  [[route]]\nchannel = 'ops'\nmention = '<@U0123456789>'\npattern = { resources = [{ wildcard = '*own*' }] }\n\
                  [[route]]\nchannel = 'ops'";
    let world = webhook_world("mention = '<!here>'", "").await;
    let config = world.environment().into_iter().find(|(name, _)| name == "CONFIG_CONTENT").unwrap().1;
    let (top, routes) = routes.split_once('\n').unwrap();
    let world = world.config(&format!("account_name = '<!channel> &'\n{top}\n{config}\n{routes}\n"));
    let worker = world.worker().await;
    let ecs = Ecs::default();
    let forged = |service: &str, event_type: &str| {
        let name = "SERVICE_TASK_START_IMPAIRED";
        ecs.service_action(service, event_type, name, Some("<!channel> <@U9999999999> <!here>"))
    };
    // Without incidents each alert is a message, and mentions like one that opens an incident.
    let story =
        [("quiet", None), ("own", Some("<@U0123456789>")), ("other", Some("<!here>")), ("other", Some("<!here>"))];
    for (number, (service, whom)) in (1..).zip(story) {
        world.queue.send_events(&[forged(service, "WARN")]).await.unwrap();
        outcomes(&worker, "posted", number).await;
        let posts = world.slack.accepted();
        let payload = &posts.last().unwrap().payload;
        assert_eq!(mentions(payload), usize::from(whom.is_some()), "{payload}");
        assert!(whom.is_none_or(|whom| payload["text"].as_str().unwrap().ends_with(whom)), "{payload}");
    }
}

#[tokio::test]
async fn a_storm_of_many_incidents_and_messages_mentions_once() {
    let world = World::new().await;
    let (url, other) = (world.slack.url("ops"), world.slack.url("other"));
    // The other channel is open, so the worker goes on receiving while this channel is blocked.
    let world = world.config(&format!(
        "[queue]\nmax_in_flight = 2000\n[diagnose]\nenabled = false\n\
         [[channel]]\nname = 'ops'\nwebhook_url = '{url}'\nmention = '<!here>'\n\
         [[channel]]\nname = 'other'\nwebhook_url = '{other}'\n[[route]]\nchannel = 'ops'\n"
    ));
    const COUNT: u32 = 300;
    let name = |number: u32| format!("a-service-whose-name-is-long-enough-that-not-all-fit-{number:03}");
    let events: Vec<Value> = (0..COUNT).map(|number| Ecs::default().start_impaired(&name(number))).collect();
    world.slack.always("ops", Answer::RateLimited(1));
    let worker = world.worker().await;
    world.queue.send_events(&events).await.unwrap();
    metric_is(&worker, "in_flight_messages", &[], COUNT.into()).await;
    world.slack.always("ops", Answer::Judge);
    outcomes(&worker, "posted", COUNT).await;
    world.nothing_more_is_posted(&worker).await;
    let posts = world.slack.accepted();
    assert!(posts.len() > 1, "not all fit into one message");
    let mentioned: Vec<usize> = posts.iter().map(|post| mentions(&post.payload)).collect();
    assert_eq!((mentioned[0], mentioned.iter().sum::<usize>()), (1, 1), "{mentioned:?}");
}

/// A channel by bot token that mentions everybody who is active in it.
async fn mentioning_bot() -> World {
    let world = bot_world("[diagnose]\nenabled = false").await;
    let config = world.environment().into_iter().find(|(name, _)| name == "CONFIG_CONTENT").unwrap().1;
    world.config(&format!("{config}\nmention = '<!here>'"))
}

#[tokio::test]
async fn an_escalation_mentions_once_although_the_root_is_gone_after_its_reply() {
    let world = mentioning_bot().await;
    let worker = world.worker().await;
    let ecs = Ecs::default();
    world.queue.send_events(&[ecs.rollback("checkout")]).await.unwrap();
    outcomes(&worker, "posted", 1).await;
    // Slack accepts a reply to a deleted message, but refuses an edit of it.
    world.slack.script(EDITS, [Answer::Status(200, "message_not_found")]);
    world.queue.send_events(&[ecs.start_impaired("checkout")]).await.unwrap();
    outcomes(&worker, "posted", 2).await;
    let messages = world.slack.messages(CHANNEL);
    let mentioned: Vec<usize> = messages.iter().map(|message| mentions(&message.payload)).collect();
    assert_eq!(mentioned, [0, 1, 0], "the root, the reply that escalates, the incident opened anew: {messages:?}");
}

#[tokio::test]
async fn replies_in_one_thread_do_not_take_the_mention_from_another_incident() {
    let world = mentioning_bot().await;
    let worker = world.worker().await;
    let ecs = Ecs::default();
    let tried = async |text: &'static str| {
        let is_tried = |requests: &[lab::slack::Request]| {
            requests.iter().any(|request| !request.accepted && request.mentions(text))
        };
        world.slack.wait_for(is_tried, LIMIT).await.unwrap();
    };
    // After a 429 two warnings wait together, so that one message is the root of both.
    world.slack.script(CHANNEL, [Answer::RateLimited(2)]);
    world.queue.send_events(&[ecs.rollback("alpha")]).await.unwrap();
    tried("alpha").await;
    world.queue.send_events(&[ecs.rollback("beta")]).await.unwrap();
    outcomes(&worker, "posted", 2).await;
    assert_eq!(roots(&world).len(), 1);
    // Both incidents escalate together. The first alert about another service waits behind them.
    world.slack.script(CHANNEL, [Answer::RateLimited(3)]);
    world.queue.send_events(&[ecs.start_impaired("alpha")]).await.unwrap();
    let escalation =
        |requests: &[lab::slack::Request]| requests.iter().filter(|request| !request.accepted).count() == 2;
    world.slack.wait_for(escalation, LIMIT).await.unwrap();
    world.queue.send_events(&[ecs.start_impaired("beta"), ecs.start_impaired("gamma")]).await.unwrap();
    outcomes(&worker, "posted", 5).await;
    let gamma = roots(&world).into_iter().find(|root| root.mentions("gamma")).unwrap();
    let thread = replies(&world, &roots(&world)[0]);
    assert_eq!((thread.len(), mentions(&thread[0].payload)), (1, 1), "{thread:?}");
    assert_eq!(mentions(&gamma.payload), 1, "{gamma:?}");
}

#[tokio::test]
async fn after_failures_of_slack_one_message_mentions_and_so_does_plain_text() {
    let world = webhook_world(&format!("mention = '{GROUP}'"), "").await;
    let worker = world.worker().await;
    let ecs = Ecs::default();
    let failures = [Answer::RateLimited(1), Answer::Status(500, "rollup_error"), Answer::Reset];
    world.slack.script("ops", failures);
    world.queue.send_events(&[ecs.start_impaired("checkout")]).await.unwrap();
    outcomes(&worker, "posted", 1).await;
    world.slack.script("ops", [Answer::RefuseBlocksWith("plain".into()), Answer::RefuseBlocksWith("plain".into())]);
    world.queue.send_events(&[ecs.start_impaired("plain")]).await.unwrap();
    outcomes(&worker, "posted", 2).await;
    // Three alerts wait together and become one message, which mentions once.
    let waiting = world.slack.requests().len();
    world.slack.script("ops", [Answer::RateLimited(2)]);
    world.queue.send_events(&[ecs.rollback("first")]).await.unwrap();
    world.slack.wait_for(|requests| requests.len() > waiting, LIMIT).await.unwrap();
    world.queue.send_events(&[ecs.rollback("second"), ecs.start_impaired("third")]).await.unwrap();
    outcomes(&worker, "posted", 5).await;
    world.queue_is_empty().await;
    let posts = world.slack.accepted();
    let mentioned: Vec<usize> = posts.iter().map(|post| mentions(&post.payload)).collect();
    assert_eq!(mentioned, [1, 1, 1], "{posts:?}");
    assert!(posts[1].payload.get("attachments").is_none() && posts[2].mentions("second") && posts[2].mentions("third"));
}
