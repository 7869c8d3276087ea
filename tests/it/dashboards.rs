//! Checks the dashboards and rules against the metrics of a real worker. These tests are ignored by default, because they need `promtool`
//! and `prometheus`. `make test` runs them if both are installed.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use lab::events::Ecs;
use serde_json::{Value, json};

use crate::world::World;

/// The event that a schedule sends to show that events arrive.
fn canary() -> Value {
    json!({
        "version": "0", "id": "ecs-slack-alerts-canary", "source": "ecs-slack-alerts.canary",
        "detail-type": "ecs-slack-alerts canary", "detail": {},
    })
}

fn check(program: &str, arguments: &[&str], input: String) {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    println!("{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs promtool"]
async fn the_metrics_are_well_formed_and_panels_use_no_other() {
    let world = World::new().await;
    let worker = world.worker().await;
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    check("promtool", &["check", "metrics"], metrics.clone());
    check("python3", &["dashboards/check.py", "static", "--metrics", "/dev/stdin"], metrics);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn every_expression_of_a_panel_or_rule_returns_data_on_a_worker_under_load() {
    let world = World::new().await;
    let worker = world.worker().await;
    let url = worker.url("/metrics").await.unwrap();
    let queue = world.queue.clone();
    let load = tokio::spawn(async move {
        for number in 0u64.. {
            let ecs = Ecs::default();
            // A new service every few events, because a repeat of an incident is folded and not posted.
            let service = format!("service-{}", number / 3);
            let events = [ecs.start_impaired(&service), ecs.out_of_memory(&service), ecs.steady_state(&service)];
            queue.send_events(&events).await.unwrap();
            queue.send_events(&[canary()]).await.unwrap();
            lab::for_a_while(Duration::from_millis(200), "the load has a rate").await;
        }
    });
    let checked = tokio::task::spawn_blocking(move || {
        check("python3", &["dashboards/check.py", "live", "--worker", &url], String::new());
    });
    checked.await.unwrap();
    load.abort();
}
