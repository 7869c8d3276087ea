//! Whom messages mention: once, by the message that opens or escalates an incident, and by nothing that an event says.

use lab::{events::Ecs, slack::Answer};
use serde_json::Value;

use super::{bot_world, eventually, outcomes, replies, roots};
use crate::world::{World, metric_is};

const GROUP: &str = "<!subteam^S0123456789>";

/// How often the payload mentions somebody by markup that Slack obeys.
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
    // A warning opens; the second repeats it; a critical event escalates; another cause is news of equal severity; the end.
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
            // The top-level text is shown and makes the notification; an attachment is neither.
            assert_eq!(last["text"].as_str().unwrap().ends_with(GROUP), mentioned == 1, "{last}");
        }
    }
    world.queue_is_empty().await;
    let all: usize = world.slack.accepted().iter().map(|post| mentions(&post.payload)).sum();
    assert_eq!(all, 2);
}

#[tokio::test]
async fn a_bots_root_mentions_and_later_the_reply_that_escalates_but_no_edit() {
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
async fn a_route_says_otherwise_and_what_an_event_says_mentions_nobody() {
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
    // Each alert is a message, and opens what it is about.
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
async fn a_storm_mentions_once_however_many_incidents_it_opens_and_messages_it_takes() {
    let world = World::new().await;
    let (url, other) = (world.slack.url("ops"), world.slack.url("other"));
    // With another channel that is open, receives go on while this one is blocked.
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
    let posts = world.slack.accepted();
    assert!(posts.len() > 1, "not all fit into one message");
    let mentioned: Vec<usize> = posts.iter().map(|post| mentions(&post.payload)).collect();
    assert_eq!((mentioned[0], mentioned.iter().sum::<usize>()), (1, 1), "{mentioned:?}");
}
