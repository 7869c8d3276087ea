//! From what lies on the queue to an event in EventBridge's shape: transports' wrappers taken off, other shapes brought into
//! it as far as they can be understood, and every container's environment dropped.

use serde_json::{Value, json};

use super::{Arn, cloudwatch, text, texts};

/// What SNS adds that is of no use in an alert and would let a reader confirm or end the subscription.
const SNS_CREDENTIALS: [&str; 6] =
    ["Signature", "SignatureVersion", "SigningCertURL", "SubscribeURL", "Token", "UnsubscribeURL"];

/// Takes the wrappers off, normalises what is inside, and drops the environments.
pub(super) fn normalise(mut value: Value) -> Value {
    let mut topic = None;
    // Ends: each layer is smaller than the one around it.
    while let Some(inner) = unwrapped(&value) {
        topic = text(&value, "TopicArn").map(str::to_owned).or(topic);
        value = inner;
    }
    let mut value = legacy_alarm(&value, topic.as_deref()).unwrap_or_else(|| with_detail_type(value));
    drop_environments(&mut value);
    value
}

/// The text with each lone half of a surrogate pair replaced; none if there is no such thing. JSON's grammar allows `\\ud800`
/// by itself, which is what is left where a text was cut inside an emoji; Rust's strings cannot hold it.
pub(super) fn mend_surrogates(body: &str) -> Option<String> {
    let mut mended = String::with_capacity(body.len());
    let (mut rest, mut found) = (body, false);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let pair = |text: &str| text.strip_prefix("\\u").and_then(|hex| u32::from_str_radix(hex.get(..4)?, 16).ok());
        let length = match (pair(escape), escape.get(6..).and_then(pair)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                found = true;
                mended.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            // An escape is two characters, or a backslash at the end; what `\\u` has after it needs no care.
            _ => escape.char_indices().nth(2).map_or(escape.len(), |(index, _)| index),
        };
        mended.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    mended.push_str(rest);
    found.then_some(mended)
}

/// The event inside an SNS notification or a Lambda event of one record; none if there is no JSON object in it.
fn unwrapped(value: &Value) -> Option<Value> {
    if let Some([record]) = value.get("Records").and_then(Value::as_array).map(Vec::as_slice) {
        return match record.get("Sns") {
            Some(notification) => Some(notification.clone()).filter(Value::is_object),
            None => parse_object(text(record, "body")?),
        };
    }
    if is_sns(value) { parse_object(text(value, "Message")?) } else { None }
}

fn is_sns(value: &Value) -> bool {
    text(value, "TopicArn").is_some() || text(value, "Type") == Some("Notification")
}

fn parse_object(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// Gives an event without a detail-type the one that its detail's keys tell, wrapping a detail that came alone.
fn with_detail_type(mut value: Value) -> Value {
    if is_sns(&value)
        && let Some(fields) = value.as_object_mut()
    {
        fields.retain(|key, _| !SNS_CREDENTIALS.contains(&key.as_str()));
    }
    if text(&value, "detail-type").is_some() {
        return value;
    }
    let detail = value.get("detail").filter(|detail| detail.is_object());
    let Some((source, detail_type)) = told_by_keys(detail.unwrap_or(&value)) else {
        return value;
    };
    match value.as_object_mut().filter(|fields| fields.get("detail").is_some_and(Value::is_object)) {
        Some(event) => {
            event.entry("source").or_insert_with(|| source.into());
            event.insert("detail-type".to_owned(), detail_type.into());
            // What an input transformer calls `id` need not be unique, and duplicates are told by it.
            if !event.contains_key("version") {
                event.remove("id");
            }
            value
        }
        None => json!({ "source": source, "detail-type": detail_type, "detail": value }),
    }
}

/// The source and the detail-type of a detail.
fn told_by_keys(detail: &Value) -> Option<(&'static str, &'static str)> {
    let has = |key| detail.get(key).is_some_and(|value| !value.is_null());
    // CloudTrail has an `eventName` too, in camel case.
    let is_ecs_name = |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let detail_type = match text(detail, "eventName").filter(is_ecs_name) {
        Some(name) if name.starts_with("HOOK_") => "ECS Hook State Change",
        Some(name) if name.starts_with("DAEMON_DEPLOYMENT_") => "ECS Daemon Deployment State Change",
        Some(_) if has("daemonDeploymentArn") => "ECS Daemon Deployment State Change",
        Some(name) if name.starts_with("DAEMON_") => "ECS Daemon Service Action",
        Some(_) if has("deploymentId") => "ECS Deployment State Change",
        Some(_) => "ECS Service Action",
        None if has("taskArn") && has("lastStatus") => "ECS Task State Change",
        None if has("containerInstanceArn") && has("overallStatus") => "ECS Container Instance Health Change",
        None if has("containerInstanceArn") => "ECS Container Instance State Change",
        None if has("alarmName") && has("state") => return Some(("aws.cloudwatch", "CloudWatch Alarm State Change")),
        None if has("eventTypeCode") && has("eventTypeCategory") => return Some(("aws.health", "AWS Health Event")),
        None if has("eventTriggerName") && has("applicationName") => {
            return Some(("aws.codedeploy", "CodeDeploy Deployment State-change Notification"));
        }
        None if has("AutoScalingGroupName") => {
            let detail_type = match text(detail, "Event")? {
                "autoscaling:EC2_INSTANCE_LAUNCH" => "EC2 Instance Launch Successful",
                "autoscaling:EC2_INSTANCE_LAUNCH_ERROR" => "EC2 Instance Launch Unsuccessful",
                "autoscaling:EC2_INSTANCE_TERMINATE" => "EC2 Instance Terminate Successful",
                "autoscaling:EC2_INSTANCE_TERMINATE_ERROR" => "EC2 Instance Terminate Unsuccessful",
                _ => return None,
            };
            return Some(("aws.autoscaling", detail_type));
        }
        None if has("finding-severity-counts") => return Some(("aws.ecr", "ECR Image Scan")),
        None if text(detail, "eventSource") == Some("ecs.amazonaws.com") && has("eventName") => {
            "AWS API Call via CloudTrail"
        }
        None => return None,
    };
    Some(("aws.ecs", detail_type))
}

/// The alarm that CloudWatch sends to SNS, as the event that it sends to EventBridge.
fn legacy_alarm(message: &Value, topic: Option<&str>) -> Option<Value> {
    text(message, "AlarmName").and(text(message, "NewStateValue"))?;
    let arn = text(message, "AlarmArn");
    // `Region` is a display name ("EU (Ireland)"). The alarm's topics are always in its own region.
    let topics = texts(message).flat_map(Arn::find_in).filter(|arn| arn.service == "sns");
    let region = [arn, topic].into_iter().flatten().find_map(Arn::parse).or_else(|| topics.into_iter().next());
    let region = region.map(|arn| arn.region);
    let mut event = json!({
        "source": "aws.cloudwatch",
        "detail-type": "CloudWatch Alarm State Change",
        "account": text(message, "AWSAccountId"),
        "region": region.or(text(message, "Region")),
        "time": text(message, "StateChangeTime"),
        "resources": arn.map(|arn| [arn]),
        "detail": cloudwatch::detail_of_notification(message),
    });
    drop_nulls(&mut event);
    Some(event)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Drops every `environment` and `environmentFiles`, and what follows one in a text that quotes JSON. As deep as the JSON
/// parser lets a value be.
pub(crate) fn drop_environments(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| !(is_environment(key) && is_compound(value)));
            fields.values_mut().for_each(drop_environments);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_environments),
        Value::String(text) => drop_quoted_environment(text),
        _ => {}
    }
}

/// Drops what follows an environment in a text that quotes JSON.
pub(crate) fn drop_quoted_environment(text: &mut String) {
    if let Some(start) = quoted_environment(text) {
        text.truncate(start);
        text.push('…');
    }
}

const ENVIRONMENT: &str = "environment";
const ENVIRONMENT_FILES: &str = "environmentFiles";

fn is_environment(key: &str) -> bool {
    key.eq_ignore_ascii_case(ENVIRONMENT) || key.eq_ignore_ascii_case(ENVIRONMENT_FILES)
}

/// An array or an object, also one that was put into a string.
fn is_compound(value: &Value) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) => true,
        Value::String(text) => text.trim_start().starts_with(['[', '{']),
        _ => false,
    }
}

/// Where a text begins to quote an environment, as in `… \"environment\": [{ …`, however often the quotes are escaped.
fn quoted_environment(text: &str) -> Option<usize> {
    let key_at = |start: &usize| {
        let rest = text.get(*start..).unwrap_or_default();
        let name_end = rest.bytes().take_while(u8::is_ascii_alphabetic).take(ENVIRONMENT_FILES.len()).count();
        let (name, rest) = rest.split_at(name_end);
        let blank = |c: char| c.is_whitespace() || "\\\"'".contains(c);
        is_environment(name)
            && rest.starts_with(['"', '\'', '\\'])
            && rest
                .trim_start_matches(blank)
                .strip_prefix(':')
                .is_some_and(|value| value.trim_start_matches(blank).starts_with(['[', '{']))
    };
    text.as_bytes()
        .windows(ENVIRONMENT.len())
        .enumerate()
        // One letter first, a rare one: most texts have none of it.
        .filter(|(_, window)| window[2] | 0x20 == b'v' && window.eq_ignore_ascii_case(ENVIRONMENT.as_bytes()))
        .map(|(start, _)| start)
        .find(key_at)
}
