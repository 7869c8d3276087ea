//! Turns the body of a message into events in EventBridge's shape: removes the wrappers of SNS and SQS, converts other known shapes, and
//! drops every container's environment.

use serde_json::{Value, json};

use super::{Arn, Event, cloudwatch, json::parse, text, texts};

/// Fields that SNS adds. An alert must not show them, because with them a reader can confirm or end the subscription.
const SNS_CREDENTIALS: [&str; 6] =
    ["Signature", "SignatureVersion", "SigningCertURL", "SubscribeURL", "Token", "UnsubscribeURL"];

/// Fields that SQS adds and that people do not need.
const OF_SQS: [&str; 6] =
    ["attributes", "eventSource", "md5OfBody", "md5OfMessageAttributes", "messageAttributes", "receiptHandle"];

/// Removes the wrappers, normalises their content, and drops the environments. Returns at least one event. The event of a Lambda
/// function and the answer of the AWS CLI have a list of records, each of which becomes an event. A record without a JSON object in it
/// is itself the event.
pub(super) fn open(value: Value) -> Vec<Event> {
    let mut events = Vec::new();
    let mut parcels = vec![Parcel { value, carrier: None, topic: None }];
    // The loop ends because each layer is smaller than the one around it.
    while let Some(parcel) = parcels.pop() {
        match parcel.open() {
            Ok(inside) => parcels.extend(inside.into_iter().rev()),
            Err(parcel) => events.push(parcel.normalised()),
        }
    }
    events
}

/// A JSON object that may be a wrapper, and facts from the wrappers around it.
struct Parcel {
    value: Value,
    /// The id in the innermost wrapper.
    carrier: Option<String>,
    /// The topic in the innermost SNS notification.
    topic: Option<String>,
}

impl Parcel {
    /// Removes one wrapper: the content, in its order. The error is this object if it is no wrapper.
    fn open(mut self) -> Result<Vec<Self>, Self> {
        for list in ["Records", "Messages"] {
            let Some(Value::Array(records)) = self.value.get_mut(list) else { continue };
            if records.iter().all(Value::is_object) && records.iter().any(is_record) {
                return Ok(std::mem::take(records).into_iter().map(|record| self.of_record(record)).collect());
            }
        }
        // An object outside a list of records may be anything, so it counts as a wrapper only if it has all of a wrapper's fields.
        let (inside, id) = if is_sns(&self.value) {
            (text(&self.value, "Message").and_then(parse_object), text(&self.value, "MessageId"))
        } else if let Some(id) = sqs_id(&self.value) {
            (body(&self.value).and_then(parse_object), Some(id))
        } else {
            (None, None)
        };
        let topic = text(&self.value, "TopicArn");
        match inside {
            Some(value) => Ok(vec![self.inner(value, id, topic)]),
            None => Err(self),
        }
    }

    /// The content of a record in this wrapper, or the record itself if it contains no JSON object.
    fn of_record(&self, mut record: Value) -> Self {
        if let Some(notification) = record.get_mut("Sns").filter(|notification| notification.is_object()) {
            return self.inner(notification.take(), None, None);
        }
        let id = sqs_id(&record).map(str::to_owned);
        let value = body(&record).and_then(parse_object).unwrap_or_else(|| {
            if let Some(fields) = record.as_object_mut() {
                fields.retain(|key, _| !OF_SQS.iter().any(|name| name.eq_ignore_ascii_case(key)));
                if let Some(body) = fields.remove("body").or_else(|| fields.remove("Body")) {
                    fields.insert("message".to_owned(), body);
                }
            }
            record
        });
        self.inner(value, id.as_deref(), None)
    }

    /// The content of this wrapper, with the wrapper's id and topic. If it has none, those of the wrapper around it stay.
    fn inner(&self, value: Value, id: Option<&str>, topic: Option<&str>) -> Self {
        Self {
            value,
            carrier: id.map(str::to_owned).or_else(|| self.carrier.clone()),
            topic: topic.map(str::to_owned).or_else(|| self.topic.clone()),
        }
    }

    /// The event in EventBridge's shape, without environments.
    fn normalised(self) -> Event {
        let alarm = legacy_alarm(&self.value, self.topic.as_deref());
        let mut value = alarm.unwrap_or_else(|| with_detail_type(self.value));
        drop_environments(&mut value);
        Event { value, carrier: self.carrier }
    }
}

/// Whether an item of a list of records is from SQS or SNS. S3 and CloudTrail also have lists with the name `Records`.
fn is_record(record: &Value) -> bool {
    body(record).is_some() || record.get("Sns").is_some_and(Value::is_object)
}

/// The body of an SQS message, in the spelling of Lambda or of the AWS CLI.
fn body(record: &Value) -> Option<&str> {
    text(record, "body").or_else(|| text(record, "Body"))
}

fn sqs_id(record: &Value) -> Option<&str> {
    text(record, "messageId").or_else(|| text(record, "MessageId"))
}

fn is_sns(value: &Value) -> bool {
    text(value, "TopicArn").is_some() || text(value, "Type") == Some("Notification")
}

fn parse_object(text: &str) -> Option<Value> {
    parse(text).ok().filter(Value::is_object)
}

/// If an event has no detail-type, adds the one that follows from its detail's keys. If the value is a detail alone, puts it in an event.
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
    let Some((source, detail_type)) = type_from_keys(detail.unwrap_or(&value)) else {
        return value;
    };
    match value.as_object_mut().filter(|fields| fields.get("detail").is_some_and(Value::is_object)) {
        Some(event) => {
            event.entry("source").or_insert_with(|| source.into());
            event.insert("detail-type".to_owned(), detail_type.into());
            // An input transformer may use `id` for something else than EventBridge's id.
            if !event.contains_key("version") {
                event.remove("id");
            }
            value
        }
        None => json!({ "source": source, "detail-type": detail_type, "detail": value }),
    }
}

/// The source and the detail-type that follow from a detail's keys.
fn type_from_keys(detail: &Value) -> Option<(&'static str, &'static str)> {
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

/// Converts the notification that a CloudWatch alarm sends to SNS to the event that it sends to EventBridge.
fn legacy_alarm(message: &Value, topic: Option<&str>) -> Option<Value> {
    text(message, "AlarmName").and(text(message, "NewStateValue"))?;
    let arn = text(message, "AlarmArn");
    // `Region` is a display name ("EU (Ireland)"), so an ARN is better. An alarm's topics are always in the alarm's Region.
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

/// Drops every `environment` and `environmentFiles`, and cuts a text that quotes one in JSON. The recursion is limited, because the
/// depth of values is.
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

/// Cuts a text at the place where it begins to quote an environment in JSON.
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

/// Whether it is an array or an object, or a string that contains one in JSON.
fn is_compound(value: &Value) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) => true,
        Value::String(text) => text.trim_start().starts_with(['[', '{']),
        _ => false,
    }
}

/// The position at which a text begins to quote an environment, as in `… \"environment\": [{ …`. The quotes may be escaped any number
/// of times.
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
    if !has_nv(text.as_bytes()) {
        return None;
    }
    text.as_bytes()
        .windows(ENVIRONMENT.len())
        .enumerate()
        // The letter "v" is compared first, because it is rare.
        .filter(|(_, window)| window[2] | 0x20 == b'v' && window.eq_ignore_ascii_case(ENVIRONMENT.as_bytes()))
        .map(|(start, _)| start)
        .find(key_at)
}

/// Whether a text contains "nv", two letters of [`ENVIRONMENT`] that few other words have. It does not stop at the first "nv", so that the
/// compiler can compare many bytes at once.
fn has_nv(text: &[u8]) -> bool {
    let pairs = text.iter().zip(text.get(1..).unwrap_or_default());
    pairs.fold(false, |found, (first, second)| found | ((first | 0x20 == b'n') & (second | 0x20 == b'v')))
}
