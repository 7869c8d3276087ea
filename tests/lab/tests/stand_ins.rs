//! Tests of the stand-ins: they behave as the tests of the worker assume.

use std::time::Duration;

use anyhow::Result;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use lab::aws::Aws;
use lab::events::Ecs;
use lab::fault::{Fault, FaultyAws};
use lab::slack::{Answer, Rate, Slack};
use lab::unique;
use lab::worker::Worker;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

/// Posts the payload. Returns the status, Retry-After and body, or the transport's error.
async fn post(url: &str, payload: &Value) -> Result<(u16, Option<String>, String), reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(500)).build()?;
    let request = client.post(url).header("content-type", "application/json").body(payload.to_string());
    let response = request.send().await?;
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok((response.status().as_u16(), retry_after, response.text().await?))
}

fn alert(text: &str) -> Value {
    let block = json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
    json!({ "text": text, "attachments": [{ "color": "danger", "blocks": [block] }] })
}

#[tokio::test]
async fn the_rule_sends_only_matching_events_to_the_queue() -> Result<()> {
    let aws = Aws::shared().await?;
    let (queue, dlq) = aws.queue_with_dlq(&unique("rule"), 1, Duration::from_secs(1)).await?;
    let bus = unique("bus");
    aws.create_bus(&bus).await?;
    let pattern = json!({ "source": ["aws.ecs"], "detail": { "eventType": ["WARN", "ERROR"] } });
    aws.create_rule(&bus, &unique("rule"), &pattern, &queue).await?;

    let ecs = Ecs::default();
    let ids = aws.put_events(&bus, &[ecs.steady_state("calm"), ecs.start_impaired("checkout")]).await?;

    let counts = queue.wait_for(|counts| counts.total() > 0, LIMIT).await?;
    assert_eq!((counts.visible, counts.in_flight, counts.delayed), (1, 0, 0));
    let stored = queue.messages().await?;
    let event: Value = serde_json::from_str(&stored[0].body)?;
    assert_eq!(event["id"], *ids[1]);
    assert_eq!(event["source"], "aws.ecs");
    assert_eq!(event["account"], "123456789012");
    assert_eq!(event["resources"][0], "arn:aws:ecs:eu-west-1:123456789012:service/production/checkout");
    assert_eq!((stored[0].receive_count, stored[0].visible), (0, true));
    assert_eq!(dlq.counts().await?.total(), 0);
    Ok(())
}

#[tokio::test]
async fn a_move_task_empties_a_dead_letter_queue_and_refuses_what_sqs_refuses() -> Result<()> {
    let aws = Aws::shared().await?;
    let proxy = FaultyAws::start(&aws).await?;
    let (queue, dlq) = aws.queue_with_dlq(&unique("move"), 5, Duration::from_secs(30)).await?;
    dlq.send(&["one".to_owned(), "two".to_owned()]).await?;
    dlq.send_with("three", &[("ERROR_CODE", "TIMEOUT")]).await?;
    let sqs = proxy.sqs().await;
    let start = |from: &str, to: &str| sqs.start_message_move_task().source_arn(from).destination_arn(to);
    let code = |error: Option<&str>| error.unwrap_or_default().to_owned();

    let refused = start(&queue.arn, &dlq.arn).send().await.unwrap_err();
    assert_eq!(code(refused.code()), "InvalidParameterValue", "{refused:?}");
    let refused = start(&dlq.arn, "arn:aws:sqs:eu-west-1:123456789012:nowhere").send().await.unwrap_err();
    assert_eq!(code(refused.code()), "ResourceNotFoundException", "{refused:?}");

    let slow = start(&dlq.arn, &queue.arn).max_number_of_messages_per_second(1).send().await?;
    let refused = start(&dlq.arn, &queue.arn).send().await.unwrap_err();
    assert_eq!(code(refused.code()), "InvalidParameterValue", "{refused:?}");
    let handle = slow.task_handle.unwrap_or_default();
    sqs.cancel_message_move_task().task_handle(&handle).send().await?;
    let latest = async || {
        let list = sqs.list_message_move_tasks().source_arn(&dlq.arn).send().await?;
        anyhow::Ok(list.results.unwrap_or_default().remove(0))
    };
    let status = async |wanted: &str| Ok(latest().await?.status() == Some(wanted));
    lab::eventually("it is cancelled", LIMIT, async || status("CANCELLED").await).await?;
    let refused = sqs.cancel_message_move_task().task_handle(&handle).send().await.unwrap_err();
    assert!(code(refused.code()).contains("UnsupportedOperation"), "{refused:?}");

    start(&dlq.arn, &queue.arn).send().await?;
    lab::eventually("it is completed", LIMIT, async || status("COMPLETED").await).await?;
    assert_eq!((queue.counts().await?.visible, dlq.counts().await?.total()), (3, 0));
    let task = latest().await?;
    assert_eq!((task.source_arn(), task.destination_arn()), (Some(&*dlq.arn), Some(&*queue.arn)));
    assert_eq!(task.task_handle(), None, "only a running task has one");
    Ok(())
}

#[tokio::test]
async fn the_proxy_records_requests_and_fails_as_scripted() -> Result<()> {
    let aws = Aws::shared().await?;
    let proxy = FaultyAws::start(&aws).await?;
    let (queue, _) = aws.queue_with_dlq(&unique("proxy"), 5, Duration::from_secs(30)).await?;
    queue.send(&["one".to_owned(), "two".to_owned()]).await?;
    let endpoint = proxy.environment().into_iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").map(|(_, url)| url);
    let ask = async |operation: &str, body: Value| -> Result<(u16, Value)> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let request = client
            .post(endpoint.as_deref().unwrap_or_default())
            .header("x-amz-target", format!("AmazonSQS.{operation}"))
            .header("content-type", "application/x-amz-json-1.0")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=123456789012/20260101/eu-west-1/sqs/aws4_request")
            .body(body.to_string());
        let response = request.send().await?;
        Ok((response.status().as_u16(), serde_json::from_str(&response.text().await?)?))
    };

    proxy.script("ReceiveMessage", [Fault::Error(500, "InternalError")]);
    let receive = json!({ "QueueUrl": queue.url, "MaxNumberOfMessages": 10 });
    assert_eq!(ask("ReceiveMessage", receive.clone()).await?.0, 500);
    let (status, received) = ask("ReceiveMessage", receive).await?;
    assert_eq!(status, 200);
    let messages = received["Messages"].as_array().cloned().unwrap_or_default();
    assert_eq!(messages.len(), 2);

    proxy.always("DeleteMessageBatch", Fault::FirstEntryFails);
    let entries = messages.iter().enumerate();
    let entries = entries.map(|(i, message)| json!({ "Id": i.to_string(), "ReceiptHandle": message["ReceiptHandle"] }));
    let delete = json!({ "QueueUrl": queue.url, "Entries": entries.collect::<Vec<_>>() });
    let (_, deleted) = ask("DeleteMessageBatch", delete).await?;
    assert_eq!(deleted["Successful"][0]["Id"], "1");
    assert_eq!(deleted["Failed"][0]["Id"], "0");
    assert_eq!(deleted["Failed"][0]["SenderFault"], false);
    assert_eq!(queue.counts().await?.in_flight, 1);

    assert_eq!(proxy.calls("ReceiveMessage").len(), 2);
    proxy.wait_for(|calls| calls.len() == 3, LIMIT).await
}

#[tokio::test]
async fn a_past_event_keeps_its_time() -> Result<()> {
    let aws = Aws::shared().await?;
    let (queue, _dlq) = aws.queue_with_dlq(&unique("past"), 1, Duration::from_secs(1)).await?;
    let bus = unique("bus");
    aws.create_bus(&bus).await?;
    aws.create_rule(&bus, &unique("rule"), &json!({ "source": ["aws.ecs"] }), &queue).await?;

    let mut event = Ecs::default().start_impaired("checkout");
    event["time"] = "2026-03-02T08:19:00Z".into();
    aws.put_past_event(&bus, &event).await?;
    aws.put_events(&bus, &[event]).await?;

    queue.wait_for(|counts| counts.total() == 2, LIMIT).await?;
    let times = queue.messages().await?.into_iter().map(|stored| {
        let event: Value = serde_json::from_str(&stored.body)?;
        Ok(event["time"] == "2026-03-02T08:19:00Z")
    });
    assert_eq!(times.collect::<Result<Vec<_>>>()?, [true, false]);
    Ok(())
}

#[tokio::test]
async fn the_page_gets_posts_by_webhook_and_the_current_state_of_messages_by_bot_token() -> Result<()> {
    let slack = Slack::start().await?;
    let changes = async |count: u64| -> Result<Value> {
        let (_, body) = lab::get(&format!("{}changes/after/{count}", slack.page())).await?;
        Ok(serde_json::from_str(&body)?)
    };
    let client = reqwest::Client::builder().no_proxy().build()?;
    let call = async |method: &str, mut payload: Value, more: Value| -> Result<Value> {
        let fields = more.as_object().cloned().unwrap_or_default();
        payload.as_object_mut().into_iter().for_each(|payload| payload.extend(fields.clone()));
        let request = client.post(format!("{}{method}", slack.api_url())).header("content-type", "application/json");
        let request = request.bearer_auth(lab::slack::web_api::TOKEN).body(payload.to_string());
        Ok(serde_json::from_str(&request.send().await?.text().await?)?)
    };
    post(&slack.url("alerts"), &alert("by webhook")).await?;
    let root = call("chat.postMessage", alert("trouble"), json!({ "channel": "C1" })).await?["ts"].clone();
    let reply = json!({ "channel": "C1", "thread_ts": root });
    call("chat.postMessage", alert("over"), reply).await?;

    let first = changes(0).await?;
    assert_eq!(first["count"], 3);
    let texts = |changes: &Value| -> Vec<String> {
        let messages = changes["messages"].as_array().into_iter().flatten();
        messages.map(|message| format!("{} {}", message["by"], message["payload"]["text"])).collect()
    };
    assert_eq!(texts(&first), [r#""webhook" "by webhook""#, r#""bot token" "trouble""#, r#""bot token" "over""#]);
    assert_eq!(first["messages"][2]["thread"], root);

    call("chat.update", alert("all is well"), json!({ "channel": "C1", "ts": root })).await?;
    let second = changes(3).await?;
    assert_eq!((&second["count"], texts(&second)), (&json!(4), vec![r#""bot token" "all is well""#.to_owned()]));
    assert_eq!((&second["messages"][0]["id"], &second["messages"][0]["edits"]), (&root, &json!(1)));
    assert_eq!(texts(&changes(4).await?), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn slack_answers_as_scripted_and_records_it() -> Result<()> {
    let slack = Slack::start().await?;
    let url = slack.url("alerts");
    slack.script("alerts", [Answer::Status(500, "rollup_error"), Answer::Hang, Answer::Reset, Answer::Cut]);

    assert_eq!(post(&url, &alert("a")).await?, (500, None, "rollup_error".to_owned()));
    assert!(post(&url, &alert("b")).await.is_err_and(|error| error.is_timeout()));
    let reset = format!("{:?}", post(&url, &alert("c")).await);
    assert!(reset.contains("ConnectionReset"), "{reset}");
    let cut = post(&url, &alert("cut short")).await;
    assert!(cut.as_ref().is_err_and(|error| !error.is_timeout()), "{cut:?}");
    assert_eq!(post(&url, &alert("whole")).await?, (200, None, "ok".to_owned()));
    assert_eq!(post(&url, &json!({ "text": "" })).await?, (400, None, "no_text".to_owned()));

    let seen = slack.wait_for(|requests| requests.len() == 6, LIMIT).await?;
    let accepted = seen.iter().map(|request| request.accepted).collect::<Vec<_>>();
    assert_eq!(accepted, [false, false, false, true, true, false]);
    assert!(seen[4].mentions("whole") && !seen[4].mentions("cut"));
    Ok(())
}

#[tokio::test]
async fn slack_refuses_blocks_with_a_text_but_not_that_text_alone() -> Result<()> {
    let slack = Slack::start().await?;
    slack.always("alerts", Answer::RefuseBlocksWith("poison".to_owned()));
    let url = slack.url("alerts");
    assert_eq!(post(&url, &alert("a poisonous one")).await?.2, "invalid_blocks");
    assert_eq!(post(&url, &alert("a good one")).await?.2, "ok");
    assert_eq!(post(&url, &json!({ "text": "a poisonous one" })).await?.2, "ok");
    Ok(())
}

#[tokio::test]
async fn slack_loses_an_answer_is_late_or_refuses_a_text_until_its_scripts_are_removed() -> Result<()> {
    let slack = Slack::start().await?;
    let url = slack.url("alerts");
    slack.always("alerts", Answer::Refuse("bad".to_owned()));
    slack.script("alerts", [Answer::Lost, Answer::Late(Duration::from_millis(100))]);
    assert!(post(&url, &alert("lost")).await.is_err());
    let begun = std::time::Instant::now();
    assert_eq!(post(&url, &alert("late")).await?.0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(post(&url, &json!({ "text": "bad" })).await?, (400, None, "no_text".to_owned()));
    slack.calm();
    assert_eq!(post(&url, &json!({ "text": "bad" })).await?.0, 200);
    let accepted: Vec<bool> = slack.requests().iter().map(|request| request.accepted).collect();
    assert_eq!(accepted, [true, true, false, true]);
    assert!(slack.requests().iter().all(|request| request.app == "B00000000"));
    Ok(())
}

#[tokio::test]
async fn slack_limits_the_rate_and_counts_requests_before_the_end_of_a_retry_after() -> Result<()> {
    let interval = Duration::from_secs(1);
    let slack = Slack::start_on(0, Some(Rate { interval, burst: 2 })).await?;
    let url = slack.url("alerts");
    let statuses = [
        post(&url, &alert("1")).await?.0,
        post(&url, &alert("2")).await?.0,
        post(&url, &alert("too fast")).await?.0,
        post(&slack.url("others"), &alert("another webhook")).await?.0,
    ];
    assert_eq!(statuses, [200, 200, 429, 200]);
    assert_eq!(slack.violations(), 0);
    let (status, retry_after, body) = post(&url, &alert("did not wait")).await?;
    assert_eq!((status, retry_after.as_deref()), (429, Some("1")), "{body}");
    assert_eq!(slack.violations(), 1);

    slack.script("others", [Answer::RateLimited(7)]);
    assert_eq!(post(&slack.url("others"), &alert("scripted")).await?.1.as_deref(), Some("7"));
    Ok(())
}

#[tokio::test]
async fn the_lines_of_a_worker_are_read_and_it_is_stopped() -> Result<()> {
    let script = r#"trap 'echo "{\"message\":\"bye\",\"why\":\"TERM\"}"; exit 3' TERM
        echo "not JSON" >&2; echo "{\"fields\":{\"message\":\"hello $GREETING$HOME\"}}"; while :; do sleep 0.02; done"#;
    let environment = [("GREETING".to_owned(), "world".to_owned())];
    let mut worker = Worker::spawn("/bin/sh", environment, &["-c", script])?;
    worker.wait_for_line(|line| line.message() == "hello world", LIMIT).await?;
    worker.terminate().await?;
    assert_eq!(worker.wait(LIMIT).await?.code(), Some(3));
    let bye = worker.wait_for_line(|line| line.message() == "bye", LIMIT).await?;
    assert_eq!(bye.field("why"), "TERM");
    assert!(worker.wait_for_line(|line| line.message() == "never said", LIMIT).await.is_err());
    assert!(worker.terminate().await.is_err());
    Ok(())
}
