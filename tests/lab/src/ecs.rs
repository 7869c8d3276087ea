//! A stand-in for the APIs about services with problems, which the emulator lacks: ECS, CloudWatch Logs, and Elastic Load Balancing for the
//! health of targets. It serves recorded answers over the real protocols, and answers with an error or not at all on request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Script;

/// How one request is answered.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// With the recorded answer.
    #[default]
    Recorded,
    /// With this status and AWS error code.
    Error(u16, &'static str),
    /// No answer.
    Hang,
}

#[derive(Default)]
struct Played {
    /// Added to every recorded time.
    later: time::Duration,
    services: Vec<Value>,
    tasks: Vec<Value>,
    task_definitions: Vec<Value>,
    service_deployments: Vec<Value>,
    target_groups: Vec<Value>,
    /// The names of files, and the target health in each. An answer about target health does not name its target group, so the file's name
    /// does.
    target_health: Vec<(String, Value)>,
    /// The number of ARNs on one page of ListTasks; 0 means all.
    page: usize,
    /// The ids of tasks, and their log events.
    logs: Vec<(Vec<String>, Vec<Value>)>,
    calls: Vec<(String, Value)>,
    scripts: HashMap<String, Script<Answer>>,
    /// The delay of the answers, by operation.
    delays: HashMap<String, Duration>,
    are_tags_refused: bool,
}

/// The stand-in. It ends when dropped.
pub struct EcsApi {
    address: SocketAddr,
    played: Arc<Mutex<Played>>,
    server: JoinHandle<()>,
}

impl EcsApi {
    /// Starts it on a free port with the answers of these folders: JSON files as the AWS CLI prints them.
    ///
    /// # Errors
    /// When a file cannot be read, or no port is free.
    pub async fn start<P: AsRef<Path>>(folders: &[P]) -> Result<Self> {
        Self::start_later(folders, time::Duration::ZERO).await
    }

    /// The same, with all recorded times moved later by this much.
    ///
    /// # Errors
    /// Those of [`EcsApi::start`].
    pub async fn start_later<P: AsRef<Path>>(folders: &[P], later: time::Duration) -> Result<Self> {
        let mut played = Played { later, ..Played::default() };
        for folder in folders {
            let before = played.tasks.len();
            let mut logged = Vec::new();
            for entry in std::fs::read_dir(folder)? {
                let file = entry?.path();
                let answer = serde_json::from_str(&std::fs::read_to_string(&file)?);
                let mut answer: Value = answer.with_context(|| format!("{} is not JSON", file.display()))?;
                if let Some(Value::Array(events)) = answer.get_mut("events") {
                    logged.append(events);
                }
                if let Some(targets) = answer.get_mut("TargetHealthDescriptions") {
                    let name = file.file_stem().unwrap_or_default().to_string_lossy();
                    played.target_health.push((name.into_owned(), targets.take()));
                }
                played.record(answer);
            }
            let id = |task: &Value| task["taskArn"].as_str()?.rsplit('/').next().map(str::to_owned);
            played.logs.push((played.tasks.iter().skip(before).filter_map(id).collect(), logged));
        }
        let played = Arc::new(Mutex::new(played));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(played.clone());
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, played, server })
    }

    /// Sets the number of ARNs on a page of ListTasks.
    pub fn page(&self, tasks: usize) {
        self.played.lock().page = tasks;
    }

    /// Adds an answer of DescribeServices, DescribeTasks, DescribeTaskDefinition, DescribeServiceDeployments or DescribeTargetGroups.
    /// An answer about a service replaces the previous one.
    pub fn record(&self, answer: Value) {
        self.played.lock().record(answer);
    }

    /// Removes the service with this name.
    pub fn forget(&self, service: &str) {
        self.played.lock().services.retain(|known| known["serviceName"] != service);
    }

    /// Removes all services, so that later states of them can be recorded. Their tasks stay.
    pub fn forget_services(&self) {
        self.played.lock().services.clear();
    }

    /// The environment variables with which a program uses this as ECS, in addition to those of the emulator.
    pub fn environment(&self) -> [(String, String); 3] {
        ["AWS_ENDPOINT_URL_ECS", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2"]
            .map(|name| (name.to_owned(), format!("http://{}", self.address)))
    }

    /// Sets the answers to the next requests of this operation, one after the other.
    pub fn script(&self, operation: &str, answers: impl IntoIterator<Item = Answer>) {
        self.played.lock().scripts.entry(operation.to_owned()).or_default().once.extend(answers);
    }

    /// Sets the answer to every request of this operation after its script.
    pub fn always(&self, operation: &str, answer: Answer) {
        self.played.lock().scripts.entry(operation.to_owned()).or_default().always = answer;
    }

    /// Answers each request of this operation after `delay`.
    pub fn answer_after(&self, operation: &str, delay: Duration) {
        self.played.lock().delays.insert(operation.to_owned(), delay);
    }

    /// Refuses all further requests that ask for tags.
    pub fn refuse_tags(&self) {
        self.played.lock().are_tags_refused = true;
    }

    /// The body of every request of this operation so far, in order.
    pub fn calls(&self, operation: &str) -> Vec<Value> {
        let played = self.played.lock();
        played.calls.iter().filter(|(called, _)| called == operation).map(|(_, body)| body.clone()).collect()
    }
}

impl Drop for EcsApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Played {
    fn record(&mut self, mut answer: Value) {
        to_seconds(&mut answer, self.later);
        let described = answer["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_superseded = |known: &Value| described.iter().any(|new| known["serviceArn"] == new["serviceArn"]);
        self.services.retain(|known| !is_superseded(known));
        let lists = [
            ("services", &mut self.services),
            ("tasks", &mut self.tasks),
            ("serviceDeployments", &mut self.service_deployments),
            ("TargetGroups", &mut self.target_groups),
        ];
        for (key, kept) in lists {
            if let Some(Value::Array(items)) = answer.get_mut(key) {
                kept.append(items);
            }
        }
        self.task_definitions.extend(answer.get_mut("taskDefinition").map(Value::take));
    }

    fn answer(&self, operation: &str, body: &Value) -> Option<Value> {
        let of_cluster = |item: &&Value| item["clusterArn"] == body["cluster"];
        let wanted = |item: &Value, key: &str| {
            let mut names = body[key].as_array().into_iter().flatten();
            names.any(|name| *name == item["taskArn"] || *name == item["serviceName"] || *name == item["serviceArn"])
        };
        Some(match operation {
            "DescribeServices" => {
                let found = self.services.iter().filter(of_cluster).filter(|service| wanted(service, "services"));
                let mut found: Vec<Value> = found.cloned().collect();
                for service in found.iter_mut().filter_map(Value::as_object_mut).filter(|_| !asks_for_tags(body)) {
                    service.remove("tags");
                }
                json!({ "services": found, "failures": [] })
            }
            "ListTasks" => {
                let group = format!("service:{}", body["serviceName"].as_str()?);
                let stopped = |task: &&Value| task["group"] == group && task["desiredStatus"] == body["desiredStatus"];
                let found = self.tasks.iter().filter(of_cluster).filter(stopped).map(|task| &task["taskArn"]);
                let skipped = body["nextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or_default();
                let page = if self.page > 0 { self.page } else { usize::MAX };
                let rest: Vec<_> = found.skip(skipped).collect();
                let mut answer = json!({ "taskArns": rest.iter().take(page).collect::<Vec<_>>() });
                if rest.len() > page {
                    answer["nextToken"] = (skipped + page).to_string().into();
                }
                answer
            }
            "ListServiceDeployments" => {
                let of_service = |record: &&Value| {
                    let arn = record["serviceArn"].as_str().unwrap_or_default();
                    arn.rsplit('/').next() == body["service"].as_str()
                };
                let brief = |record: &Value| json!({ "serviceDeploymentArn": record["serviceDeploymentArn"] });
                let found = self.service_deployments.iter().filter(of_cluster).filter(of_service).map(brief);
                json!({ "serviceDeployments": found.collect::<Vec<_>>() })
            }
            "DescribeServiceDeployments" => {
                let asked = body["serviceDeploymentArns"].as_array()?;
                // <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServiceDeployments.html>
                (1..=20).contains(&asked.len()).then_some(())?;
                let found = self.service_deployments.iter().filter(|it| asked.contains(&it["serviceDeploymentArn"]));
                json!({ "serviceDeployments": found.collect::<Vec<_>>(), "failures": [] })
            }
            "DescribeTargetGroups" => {
                let asked = &body["TargetGroupArns.member.1"];
                let found = self.target_groups.iter().find(|group| group["TargetGroupArn"] == *asked)?;
                json!({ "TargetGroups": [found] })
            }
            "DescribeTargetHealth" => {
                let name = body["TargetGroupArn"].as_str()?.split('/').nth(1)?;
                let (_, found) = self.target_health.iter().find(|(file, _)| file.ends_with(name))?;
                json!({ "TargetHealthDescriptions": found })
            }
            "DescribeTasks" => {
                let found = self.tasks.iter().filter(of_cluster).filter(|task| wanted(task, "tasks"));
                json!({ "tasks": found.collect::<Vec<_>>(), "failures": [] })
            }
            "DescribeTaskDefinition" => {
                let is_it = |defined: &&Value| defined["taskDefinitionArn"] == body["taskDefinition"];
                json!({ "taskDefinition": self.task_definitions.iter().find(is_it)? })
            }
            "GetLogEvents" => {
                let task = body["logStreamName"].as_str()?.rsplit('/').next()?.to_owned();
                let (_, logged) = self.logs.iter().find(|(tasks, _)| tasks.contains(&task))?;
                let skipped = logged.len().saturating_sub(body["limit"].as_u64()? as usize);
                let events: Vec<_> = logged.iter().skip(skipped).collect();
                json!({ "events": events, "nextForwardToken": "f/1", "nextBackwardToken": "b/1" })
            }
            _ => return None,
        })
    }
}

/// Whether a request asks for tags. ECS answers without tags otherwise.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html>
fn asks_for_tags(body: &Value) -> bool {
    body["include"].as_array().is_some_and(|include| include.iter().any(|field| field == "TAGS"))
}

async fn answer(State(played): State<Arc<Mutex<Played>>>, headers: HeaderMap, body: Bytes) -> Response {
    // The JSON protocol names the operation in a header: `AmazonEC2ContainerServiceV20141113.ListTasks`. The load balancer's query
    // protocol names it in the field `Action` of a form.
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let body = if target.is_some() { serde_json::from_slice(&body).unwrap_or_default() } else { form(&body) };
    let operation = target.or(body["Action"].as_str()).unwrap_or_default().rsplit('.').next().unwrap_or_default();
    let operation = operation.to_owned();
    let (script, recorded, delay) = {
        let mut played = played.lock();
        let delay = played.delays.get(&operation).copied();
        played.calls.push((operation.clone(), body.clone()));
        let refused = played.are_tags_refused && asks_for_tags(&body);
        let script = match played.scripts.get_mut(&operation).map(Script::next).unwrap_or_default() {
            Answer::Recorded if refused => Answer::Error(400, "AccessDeniedException"),
            answer => answer,
        };
        (script, played.answer(&operation, &body), delay)
    };
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    let refusal = |code: &str| {
        let message = format!("{operation} is refused");
        match target {
            Some(_) => json!({ "__type": code, "message": message }).to_string(),
            None => format!(
                "<ErrorResponse>{}</ErrorResponse>",
                xml(&json!({ "Error": { "Code": code, "Message": message } }))
            ),
        }
    };
    let answered = |answer: &Value| match target {
        Some(_) => answer.to_string(),
        None => {
            format!("<{operation}Response><{operation}Result>{}</{operation}Result></{operation}Response>", xml(answer))
        }
    };
    let (status, answer) = match (script, recorded) {
        (Answer::Recorded, Some(answer)) => (200, answered(&answer)),
        (Answer::Recorded, None) => (400, refusal("ClientException")),
        (Answer::Error(status, code), _) => (status, refusal(code)),
        (Answer::Hang, _) => std::future::pending().await,
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let kind = if target.is_some() { "application/x-amz-json-1.1" } else { "text/xml" };
    (status, [(header::CONTENT_TYPE, kind)], answer).into_response()
}

/// The fields of a form.
fn form(body: &[u8]) -> Value {
    let decoded = |text: &str| {
        let bytes = text.replace('+', " ").into_bytes();
        let mut rest = bytes.as_slice();
        let mut plain = Vec::new();
        while let Some((&first, after)) = rest.split_first() {
            let hex = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => {
                    plain.push(byte);
                    rest = after.get(2..).unwrap_or_default();
                }
                None => {
                    plain.push(first);
                    rest = after;
                }
            }
        }
        String::from_utf8_lossy(&plain).into_owned()
    };
    let text = String::from_utf8_lossy(body);
    let fields = text.split('&').filter_map(|field| field.split_once('='));
    Value::Object(fields.map(|(key, value)| (decoded(key), decoded(value).into())).collect())
}

/// The XML of AWS's query protocol, in which the items of a list are `member` elements.
fn xml(value: &Value) -> String {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| format!("<{key}>{}</{key}>", xml(value))).collect(),
        Value::Array(items) => items.iter().map(|item| format!("<member>{}</member>", xml(item))).collect(),
        Value::String(text) => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        other => other.to_string(),
    }
}

/// Converts times from the CLI's form to seconds, as the API answers them.
fn to_seconds(value: &mut Value, later: time::Duration) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let time = value.as_str().filter(|_| key.ends_with("At"));
                match time.and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok()) {
                    Some(time) => *value = json!((time + later).unix_timestamp_nanos() as f64 / 1e9),
                    None => to_seconds(value, later),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| to_seconds(item, later)),
        _ => {}
    }
}
