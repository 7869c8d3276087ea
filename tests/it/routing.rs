//! A spelling mistake in a route does not silently drop alerts. The configuration is refused, unless it allows problems to be dropped; these
//! are counted and explained.

use lab::events::Ecs;
use serde_json::json;

use crate::{
    commands::{lines, run, stderr},
    world::{World, metric_is, outcome_line, with},
};

/// A channel with one route, whose pattern has a spelling mistake.
async fn misspelt(top: &str) -> World {
    let world = World::new().await;
    let url = world.slack.url("ops");
    world.config(&format!(
        "{top}\n[diagnose]\nenabled = false\n[[channel]]\nname = 'ops'\nwebhook_url = '{url}'\n\
         [[route]]\nchannel = 'ops'\npattern = {{ source = ['aws.ecs'], detail = {{ evenName = [{{ exists = true }}] }} }}\n"
    ))
}

#[tokio::test]
async fn a_configuration_whose_routes_all_have_a_pattern_is_refused() {
    let world = misspelt("").await;
    for command in ["check", "run", "render"] {
        let output = run(&[command], &world.environment(), "");
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        for part in ["route: each has a pattern", "[[route]] with a channel and no pattern", "unrouted = \"drop\""] {
            assert!(said.contains(part), "{command}: {said} lacks {part}");
        }
    }
}

#[tokio::test]
async fn a_problem_that_no_route_takes_is_counted_by_its_severity() {
    let world = misspelt("unrouted = 'drop'").await;
    let worker = world.worker().await;
    for severity in ["warning", "critical"] {
        metric_is(&worker, "unrouted_problems_total", &[("severity", severity)], 0.0).await;
    }
    let ecs = Ecs::default();
    let events = [ecs.start_impaired("checkout"), ecs.rollback("search"), ecs.steady_state("calm")];
    world.queue.send_events(&events).await.unwrap();
    for service in ["checkout", "search", "calm"] {
        outcome_line(&worker, service, "unrouted").await;
    }
    world.nothing_more_is_posted(&worker).await;
    for severity in ["warning", "critical"] {
        metric_is(&worker, "unrouted_problems_total", &[("severity", severity)], 1.0).await;
    }
    assert_eq!(world.slack.requests().len(), 0);
}

#[tokio::test]
async fn render_and_check_say_why_no_route_takes_a_problem() {
    let world = misspelt("unrouted = 'drop'").await;
    let ecs = Ecs::default();
    let events = json!([ecs.start_impaired("checkout"), ecs.steady_state("calm")]).to_string();
    let rendered = lines(&run(&["render"], &world.environment(), &events));
    let shown: Vec<_> = rendered.iter().map(|line| (line["outcome"].as_str(), line["why"].as_str())).collect();
    assert_eq!(shown, [(Some("unrouted"), Some("no route takes this problem")), (Some("unrouted"), None)]);

    let output = run(&["check", "--event", "-"], &world.environment(), &events);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    for part in [
        "SERVICE_TASK_START_IMPAIRED, checkout, critical",
        "route[0] to \"ops\": does not match: detail.evenName is not in the event; detail has ",
        "unrouted: NO ROUTE TAKES THIS PROBLEM",
        "SERVICE_STEADY_STATE, calm, info",
        "unrouted: it is deleted",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    let output = run(&["check", "--event", "-"], &world.environment(), "not JSON");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("event: undecodable"), "{}", stderr(&output));
}

#[tokio::test]
async fn render_shows_mentions() {
    let world = World::new().await;
    let url = world.slack.url("ops");
    let config = format!("[[channel]]\nname = 'ops'\nwebhook_url = '{url}'\nmention = '<!here>'\n");
    let environment = with(&world.environment(), &[("SLACK_WEBHOOK_SECRET_ID", ""), ("CONFIG_CONTENT", &config)]);
    let ecs = Ecs::default();
    let events = json!([ecs.start_impaired("checkout"), ecs.rollback("search")]).to_string();
    let rendered = lines(&run(&["render"], &environment, &events));
    let mentions = |index: usize| rendered[index]["payload"]["text"].as_str().unwrap().ends_with(" <!here>");
    assert_eq!((mentions(0), mentions(1)), (true, false), "a rollback is a warning");
}
