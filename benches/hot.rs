//! Measures the work for each message without its waits: from the body to the payload.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ecs_slack_alerts::alert::Alert;
use ecs_slack_alerts::event::Event;
use ecs_slack_alerts::route::{ChannelId, Route, Router, pattern::Pattern};
use ecs_slack_alerts::slack::{render, report::Report};
use lab::events::Ecs;
use serde_json::{Value, json};

const TROUBLES: [fn(Ecs<'static>, &str) -> Value; 4] =
    [Ecs::image_missing, Ecs::out_of_memory, Ecs::start_impaired, Ecs::failed_health_check];

fn event(n: usize) -> Event {
    let body = TROUBLES[n % TROUBLES.len()](Ecs::default(), &format!("service-{:04}", n % 500)).to_string();
    Event::decode(&body).expect("it is JSON").remove(0)
}

fn one_message(c: &mut Criterion) {
    let body = Ecs::default().ecr_denied("checkout").to_string();
    let event = Event::decode(&body).expect("it is JSON").remove(0);
    let alert = Alert::from_event(&event);
    c.bench_function("decode", |b| b.iter(|| Event::decode(black_box(&body))));
    c.bench_function("alert", |b| b.iter(|| Alert::from_event(black_box(&event))));
    c.bench_function("render", |b| b.iter(|| render::single(black_box(&alert), Some("platform")).body()));
}

fn routes(c: &mut Criterion) {
    let team = |n: usize| {
        let pattern = json!({ "detail": { "group": [{ "wildcard": format!("service:team-{n}-*") }] } });
        Route {
            channel: ChannelId(n),
            pattern: Some(Pattern::compile(&pattern).expect("it is a pattern")),
            proceed: false,
            mention: None,
        }
    };
    let mut routes: Vec<Route> = (0..100).map(team).collect();
    routes.push(Route { channel: ChannelId(100), pattern: None, proceed: false, mention: None });
    let (router, event) = (Router::new(routes, Vec::new()), event(0));
    let severity = Alert::from_event(&event).severity;
    c.bench_function("route past 100 patterns", |b| {
        b.iter(|| router.route(black_box(event.value()), time::OffsetDateTime::UNIX_EPOCH).channels(severity))
    });
}

fn storm(c: &mut Criterion) {
    let alerts: Vec<Report> = (0..1000).map(|n| Report::of(Alert::from_event(&event(n)).into())).collect();
    let mut group = c.benchmark_group("storm");
    group.throughput(Throughput::Elements(alerts.len() as u64));
    group.bench_function("digest of 1,000 alerts", |b| {
        b.iter_batched(
            || alerts.iter().collect(),
            |alerts: Vec<&Report>| render::digest(&alerts, None),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(hot, one_message, routes, storm);
criterion_main!(hot);
