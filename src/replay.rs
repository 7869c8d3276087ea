//! Events from files instead of the queue: `render` shows what would be posted, `send` posts it, and `check --event` explains the routing.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::{StreamExt, future::join_all, stream::poll_fn};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    alert::{Alert, Severity},
    app,
    config::Config,
    diagnosis::answers::Answers,
    event::{Event, Undecodable},
    output,
    pipeline::{self, Wanted},
    route::{Recipient, RouteDecision, Router},
    slack::{Slack, channel::Destination, render, report::Report, target::TargetSource},
    text,
    webhook::WebhookSource,
};

mod input;

/// Prints one JSON line with Slack's payload for each event and each channel that it goes to. `ecs_answers` is a folder of ECS's answers;
/// an alert is diagnosed if the folder has the answers about its service. Returns `false` if an event could not be decoded.
///
/// # Errors
/// When a file cannot be read or the output cannot be written.
pub async fn render(config: Config, files: &[PathBuf], ecs_answers: Option<&Path>) -> Result<bool> {
    let answers = ecs_answers.map(read_answers).transpose()?.unwrap_or_default();
    let rule = config.diagnose.as_ref().and_then(|settings| settings.crash_loop);
    let shown = config.diagnose.map(|settings| settings.tags.shown).unwrap_or_default();
    let names: Vec<String> = config.channels.iter().map(|channel| channel.name.clone()).collect();
    let router = Router::new(config.routes, config.mutes);
    let diagnosed = async |alert: Arc<Alert>, _: Wanted| {
        let Some(service) = alert.service.clone() else { return alert };
        let mut alert = Alert::clone(&alert);
        if let Some(diagnosis) = answers.diagnosis(&service).filter(|_| alert.needs_diagnosis) {
            alert = alert.with_diagnosis(diagnosis, rule);
        }
        if let Some(tags) = answers.tags(&service) {
            alert = alert.with_tags(tags, &shown);
        }
        Arc::new(alert)
    };
    let mut all_decoded = true;
    for body in input::bodies(files)? {
        let events = match Event::decode(&body?) {
            Ok(events) => events,
            Err(error) => {
                all_decoded = false;
                output::print(undecodable(&error))?;
                continue;
            }
        };
        for event in events {
            if event.is_canary() {
                output::print(canary(&event))?;
                continue;
            }
            let (alert, decision) = pipeline::alert(event, &router, &diagnosed).await;
            let line = |outcome: &str, channel: Value, payload: Value| {
                json!({
                    "event_id": alert.event_id,
                    "outcome": outcome,
                    "channel": channel,
                    "severity": alert.severity.as_str(),
                    "cause": alert.cause.as_ref().map(|cause| cause.category.as_str()),
                    "payload": payload,
                })
            };
            if let Some((outcome, why)) = not_posted(&alert, &decision) {
                let mut line = line(outcome, Value::Null, Value::Null);
                if let Some(why) = why {
                    line["why"] = why.into();
                }
                output::print(line)?;
            }
            for Recipient { channel, mention } in decision.recipients() {
                let report = Report::of(Arc::clone(&alert)).mentioning(mention.as_deref());
                let payload = render::message(&report, config.account_name.as_deref()).to_value();
                output::print(line("post", names[channel.0].as_str().into(), payload))?;
            }
        }
    }
    Ok(all_decoded)
}

/// Posts the events, and prints one JSON line for each event and each of its channels. Returns `false` if not all were accepted.
///
/// # Errors
/// When a file cannot be read, a webhook cannot be used, or the output cannot be written.
pub async fn send(config: Config, files: &[PathBuf]) -> Result<bool> {
    let mut bodies = read_ahead(input::bodies(files)?);
    let needs_aws = config
        .channels
        .iter()
        .any(|channel| !matches!(channel.source, Some(TargetSource::Webhook(WebhookSource::Url(_)))));
    let aws = if needs_aws { Some(app::load_aws(None).await?) } else { None };
    // Ctrl-C ends the command at once: events that were not accepted are still in the files.
    let (_never, stop) = watch::channel(None);
    let slack = app::start_slack(&config, aws.as_ref(), &stop).await?;
    let router = Router::new(config.routes, config.mutes);
    // A person waits for this command. The limit is long enough for a usual 429 of Slack, but not for an outage.
    let patience = config.queue.visibility_timeout.min(Duration::from_secs(30));
    let mut all_accepted = true;
    let posts = poll_fn(|context| bodies.poll_recv(context))
        .map(async |body| Ok::<_, anyhow::Error>(send_one(&slack, &router, &body?, Instant::now() + patience).await));
    let mut posts = pin!(posts.buffered(config.queue.max_in_flight));
    while let Some(sent) = posts.next().await {
        for (line, accepted) in sent? {
            all_accepted &= accepted;
            output::print(&line)?;
        }
    }
    Ok(all_accepted)
}

/// Reads ahead by one event on a separate thread, so that waiting for standard input does not delay the posts.
fn read_ahead(bodies: impl Iterator<Item = Result<String>> + Send + 'static) -> mpsc::Receiver<Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || bodies.map(|body| sender.blocking_send(body)).take_while(Result::is_ok).count());
    receiver
}

async fn send_one(slack: &Slack, router: &Router, body: &str, start_by: Instant) -> Vec<(Value, bool)> {
    let events = match Event::decode(body) {
        Ok(events) => events,
        Err(error) => return vec![(undecodable(&error), false)],
    };
    let sent = events.into_iter().map(async |event| {
        if event.is_canary() {
            return vec![(canary(&event), true)];
        }
        let (alert, decision) = pipeline::alert(event, router, async |alert, _| alert).await;
        if let Some((outcome, why)) = not_posted(&alert, &decision) {
            let mut line = json!({"event_id": alert.event_id, "outcome": outcome, "channel": null});
            if let Some(why) = why {
                line["why"] = why.into();
            }
            return vec![(line, true)];
        }
        let posts = decision.recipients().iter().map(async |&Recipient { channel, ref mention }| {
            let report = Report::of(Arc::clone(&alert)).mentioning(mention.as_deref());
            let posted = slack.post(channel, report, Destination::Channel, start_by).await;
            let mut line = json!({"event_id": alert.event_id, "outcome": "posted", "channel": slack.name(channel)});
            if let Err(error) = &posted {
                line["outcome"] = "failed".into();
                line["error"] = error.to_string().into();
            }
            (line, posted.is_ok())
        });
        join_all(posts).await
    });
    join_all(sent).await.into_iter().flatten().collect()
}

/// The outcome of an alert that goes to no channel, and the reason if that may be a mistake.
fn not_posted(alert: &Alert, decision: &RouteDecision) -> Option<(&'static str, Option<String>)> {
    match decision {
        RouteDecision::Muted(mute) => Some(("muted", Some(mute.to_string()))),
        RouteDecision::Channels(recipients) if recipients.is_empty() => {
            let is_problem = alert.severity >= Severity::Warning;
            Some(("unrouted", is_problem.then(|| "no route takes this problem".to_owned())))
        }
        RouteDecision::Channels(_) => None,
    }
}

/// Prints for each event which route takes it, why the others do not, and which mute holds it. Returns `false` if an event could not be
/// decoded.
///
/// # Errors
/// When a file cannot be read or the output cannot be written.
pub fn explain_routes(config: Config, files: &[PathBuf]) -> Result<bool> {
    let names: Vec<String> = config.channels.iter().map(|channel| channel.name.clone()).collect();
    let router = Router::new(config.routes, config.mutes);
    let mut all_decoded = true;
    for body in input::bodies(files)? {
        let events = match Event::decode(&body?) {
            Ok(events) => events,
            Err(error) => {
                all_decoded = false;
                output::print(format_args!("event: undecodable: {}", text::line(&error.to_string(), 300)))?;
                continue;
            }
        };
        for event in events {
            if event.is_canary() {
                output::print("event: a canary, which is counted and never posted")?;
                continue;
            }
            let alert = Alert::from_event(&event);
            let time = alert.time.unwrap_or_else(OffsetDateTime::now_utc);
            let id = text::line(alert.event_id.as_deref().unwrap_or("without an id"), 80);
            let (kind, subject) = (text::line(&alert.kind, 80), text::line(&alert.subject, 80));
            output::print(format_args!("event {id}: {kind}, {subject}, {}", alert.severity.as_str()))?;
            for line in router.explain_routing(event.value(), alert.severity, time, &names) {
                output::print(format_args!("  {line}"))?;
            }
        }
    }
    Ok(all_decoded)
}

/// The line of a canary, which is never posted and has neither a severity nor a payload.
fn canary(event: &Event) -> Value {
    json!({
        "event_id": event.id(), "outcome": "canary", "channel": null, "severity": null, "cause": null, "payload": null,
    })
}

fn undecodable(error: &Undecodable) -> Value {
    json!({
        "event_id": null, "outcome": "undecodable", "channel": null, "severity": null, "cause": null, "payload": null,
        "error": error.to_string(),
    })
}

fn read_answers(folder: &Path) -> Result<Answers> {
    let mut answers = Answers::default();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let text = String::from_utf8_lossy(&text);
            let answer = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text));
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            answers.add(&name, answer.with_context(|| format!("{} is not JSON", file.display()))?);
        }
    }
    Ok(answers)
}
