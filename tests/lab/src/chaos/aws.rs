//! The AWS endpoint of one life: the lab's SQS and the emulator's DynamoDB behind random faults, with credentials that expire within seconds.
//! It records what the life received, deleted and put back, with the time and the fault.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::table::Table;
use crate::aws::REGION;
use crate::connection::{Connection, Connections};
use crate::sqs::Account;

/// The SDK renews credentials ten seconds before they expire, so it renews these after three seconds.
const CREDENTIALS_LAST: Duration = Duration::from_secs(13);

/// The longest put-back, in seconds. The worker's put-backs last half a minute and longer; here they take a tenth of that, and at most this
/// time.
const LONGEST_PUT_BACK: u64 = 3;

/// All actions on the queue, in order.
pub(super) type ActionLog = Arc<watch::Sender<Vec<QueueAction>>>;

/// One message that a life received, or asked to delete or put back.
#[derive(Debug, Clone)]
pub(super) struct QueueAction {
    pub(super) at: Instant,
    /// The life that did it.
    pub(super) by: usize,
    pub(super) kind: ActionKind,
    /// SQS's number for the message.
    pub(super) id: u64,
    /// The number of the receive that it is, or whose receipt it uses.
    pub(super) receive: u32,
    /// The body, for a receive.
    pub(super) body: Option<String>,
    /// Whether the request reached the queue.
    pub(super) acted: bool,
    /// The fault of the request.
    pub(super) fault: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActionKind {
    Received,
    Deleted,
    PutBack,
}

/// A fault of one request.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Error(&'static str, u16, &'static str),
    /// No answer for this time, then a reset.
    Hang(Duration),
    Reset,
    /// The request takes effect, and its answer is lost.
    Lost,
    /// The request takes effect, and the answer comes after this time.
    Late(Duration),
    /// Only some entries of a batch take effect; the seed selects them. A request without entries is not disturbed.
    Entries(u64),
    /// The credentials are refused, for this request and this number of further ones.
    Expired(u32),
}

/// The endpoint. It ends when dropped.
pub(super) struct Endpoint {
    address: SocketAddr,
    server: JoinHandle<()>,
}

/// The settings of an endpoint.
pub(super) struct Setup {
    pub(super) account: Arc<Account>,
    pub(super) action_log: ActionLog,
    /// The life that uses it.
    pub(super) life: usize,
    pub(super) seed: u64,
    /// How many of a hundred requests fail.
    pub(super) trouble: u32,
    /// The incidents table. Without it, the worker keeps incidents in its memory.
    pub(super) table: Option<Arc<Table>>,
    /// How many of a hundred requests to the table fail.
    pub(super) table_trouble: u32,
    /// Whether the failures have stopped.
    pub(super) calm: watch::Receiver<bool>,
    /// The receives that hung: the life, the begin and the end.
    pub(super) stalls: Arc<Mutex<Vec<(usize, Instant, Instant)>>>,
    /// How often each fault happened.
    pub(super) injected: Arc<Mutex<HashMap<&'static str, u64>>>,
}

struct EndpointState {
    setup: Setup,
    faults: Mutex<FaultState>,
}

#[derive(Default)]
struct FaultState {
    /// One for each operation, so that the order of different operations does not change the faults.
    rngs: HashMap<String, Rng>,
    /// Whether a receive has succeeded. Before that, the worker treats refused credentials as a configuration error, and ends.
    proven: bool,
    /// How many further requests are refused because of their credentials.
    refusals_left: u32,
    /// When each set of credentials was issued.
    credentials: Vec<Instant>,
}

impl Endpoint {
    pub(super) async fn open(setup: Setup) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(EndpointState { setup, faults: Mutex::default() });
        let router =
            Router::new().fallback(answer).with_state(state).into_make_service_with_connect_info::<Connection>();
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(Connections::of(listener), router).await;
        });
        Ok(Self { address, server })
    }

    /// The environment variables with which the worker uses this as AWS.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/credentials", self.address)),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(state): State<Arc<EndpointState>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if uri.path() == "/credentials" {
        return json_response(200, &state.credentials());
    }
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    let table = state.setup.table.as_ref().filter(|_| target.starts_with("DynamoDB"));
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    if state.are_expired(&headers) {
        state.log_settling(operation, &request, &[], Some("credentials expired"));
        return json_response(403, &json!({ "__type": "ExpiredToken", "message": "expired" }));
    }
    let fault = state.fault(operation, table.is_some());
    let name = fault.map(|fault| if table.is_some() { fault.name_at_table() } else { fault.name() });
    if let Some(name) = name {
        *state.setup.injected.lock().entry(name).or_default() += 1;
    }
    match fault {
        Some(Fault::Error(_, status, code)) => {
            state.log_settling(operation, &request, &[], name);
            return json_response(status, &json!({ "__type": code, "message": "a random fault" }));
        }
        Some(Fault::Expired(_)) => {
            state.log_settling(operation, &request, &[], name);
            return json_response(403, &json!({ "__type": "ExpiredToken", "message": "a random fault" }));
        }
        Some(Fault::Hang(time)) => {
            state.log_settling(operation, &request, &[], name);
            if operation == "ReceiveMessage" {
                let now = Instant::now();
                state.setup.stalls.lock().push((state.setup.life, now, now + time));
            }
            sleep(time).await;
        }
        Some(Fault::Reset) => state.log_settling(operation, &request, &[], name),
        _ => {
            let (status, answer) = match table {
                Some(table) => table.ask(target, body).await,
                None => state.carry_out(operation, request, fault).await,
            };
            match fault {
                Some(Fault::Lost) => {}
                Some(Fault::Late(time)) => {
                    sleep(time).await;
                    return json_response(status, &answer);
                }
                _ => return json_response(status, &answer),
            }
        }
    }
    connection.reset(b"");
    // Waits until the connection ends, which drops this future.
    std::future::pending().await
}

fn json_response(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body.to_string()).into_response()
}

impl EndpointState {
    async fn carry_out(&self, operation: &str, mut request: Value, fault: Option<Fault>) -> (u16, Value) {
        let mut failed = Vec::new();
        if let (Some(Fault::Entries(seed)), Some(entries)) = (fault, request["Entries"].as_array_mut()) {
            let mut rng = Rng::with_seed(seed);
            failed = entries.extract_if(.., |_| rng.bool()).collect();
        }
        let name = fault.map(|fault| fault.name());
        self.log_settling(operation, &json!({ "Entries": failed }), &[], name);
        let acted: Vec<Value> = request["Entries"].as_array().cloned().unwrap_or_default();
        let fault_of_answer = name.filter(|_| !matches!(fault, Some(Fault::Entries(_))));
        self.log_settling(operation, &json!({}), &acted, fault_of_answer);
        for entry in request["Entries"].as_array_mut().into_iter().flatten() {
            if let Some(seconds) = entry["VisibilityTimeout"].as_u64() {
                entry["VisibilityTimeout"] = json!((seconds / 10).min(LONGEST_PUT_BACK));
            }
        }
        let nothing_left = !failed.is_empty() && acted.is_empty();
        let answered = if nothing_left { Ok(json!({})) } else { self.setup.account.perform(operation, &request).await };
        match answered {
            Ok(mut answer) => {
                if operation == "ReceiveMessage" {
                    self.received(&answer, name);
                }
                for entry in failed {
                    let failure = json!({ "Id": entry["Id"], "SenderFault": false, "Code": "InternalError" });
                    match answer["Failed"].as_array_mut() {
                        Some(others) => others.push(failure),
                        None => answer["Failed"] = json!([failure]),
                    }
                }
                (200, answer)
            }
            Err(code) => (400, json!({ "__type": code, "message": code })),
        }
    }

    fn received(&self, answer: &Value, fault: Option<&'static str>) {
        if fault.is_none() {
            self.faults.lock().proven = true;
        }
        let messages = answer["Messages"].as_array().into_iter().flatten();
        self.log(messages.filter_map(|message| {
            let body = message["Body"].as_str().map(str::to_owned);
            self.action(ActionKind::Received, &message["ReceiptHandle"], body, true, fault)
        }));
    }

    /// Records deletes and put-backs that the worker asks for. The entries of `request` have no effect, those in `acted` have.
    fn log_settling(&self, operation: &str, request: &Value, acted: &[Value], fault: Option<&'static str>) {
        let kind = match operation {
            "DeleteMessageBatch" => ActionKind::Deleted,
            "ChangeMessageVisibilityBatch" => ActionKind::PutBack,
            _ => return,
        };
        let not_acted = request["Entries"].as_array().into_iter().flatten().map(|entry| (entry, false));
        let entries = not_acted.chain(acted.iter().map(|entry| (entry, true)));
        self.log(entries.filter_map(|(entry, acted)| self.action(kind, &entry["ReceiptHandle"], None, acted, fault)));
    }

    fn action(
        &self,
        kind: ActionKind,
        receipt: &Value,
        body: Option<String>,
        acted: bool,
        fault: Option<&'static str>,
    ) -> Option<QueueAction> {
        // The form of receipts in the lab's SQS.
        let (id, receive) = receipt.as_str()?.split_once('-')?;
        let (id, receive) = (id.parse().ok()?, receive.parse().ok()?);
        Some(QueueAction { at: Instant::now(), by: self.setup.life, kind, id, receive, body, acted, fault })
    }

    fn log(&self, actions: impl Iterator<Item = QueueAction>) {
        self.setup.action_log.send_modify(|action_log| action_log.extend(actions));
    }

    fn credentials(&self) -> Value {
        let mut faults = self.faults.lock();
        faults.credentials.push(Instant::now());
        let expiration = (OffsetDateTime::now_utc() + CREDENTIALS_LAST).format(&Rfc3339).unwrap_or_default();
        json!({
            "AccessKeyId": format!("CHAOS{}", faults.credentials.len()),
            "SecretAccessKey": super::SECRET_KEY,
            "Token": "token",
            "Expiration": expiration,
        })
    }

    /// Whether the request was signed with credentials that have expired, or were never issued.
    fn are_expired(&self, headers: &HeaderMap) -> bool {
        let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let key = signed.split_once("Credential=CHAOS").and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        let issued_at = |key: usize| self.faults.lock().credentials.get(key.checked_sub(1)?).copied();
        key.and_then(issued_at).is_none_or(|at| at.elapsed() > CREDENTIALS_LAST)
    }

    fn fault(&self, operation: &str, is_table: bool) -> Option<Fault> {
        let trouble = if is_table { self.setup.table_trouble } else { self.setup.trouble };
        if trouble == 0 || *self.setup.calm.borrow() {
            return None;
        }
        let mut faults = self.faults.lock();
        let proven = faults.proven;
        if faults.refusals_left > 0 {
            faults.refusals_left -= 1;
            return Some(Fault::Expired(0));
        }
        let seed = || {
            let mix = |sum: u64, byte: u8| sum.wrapping_mul(31).wrapping_add(u64::from(byte));
            let mixed = operation.bytes().fold(self.setup.life as u64, mix);
            Rng::with_seed(self.setup.seed ^ Rng::with_seed(mixed).u64(..))
        };
        let rng = faults.rngs.entry(operation.to_owned()).or_insert_with(seed);
        if rng.u32(..100) >= trouble {
            return None;
        }
        let fault = match rng.u8(..if proven { 9 } else { 3 }) {
            0 => Fault::Error("AWS answers 500", 500, "InternalFailure"),
            1 => Fault::Error("AWS throttles", 400, "ThrottlingException"),
            2 => Fault::Reset,
            3 => Fault::Lost,
            4 => Fault::Late(Duration::from_millis(rng.u64(50..=1_500))),
            5 => Fault::Entries(rng.u64(..)),
            6 => Fault::Lost,
            7 => Fault::Expired(rng.u32(0..=3)),
            // After ten seconds the worker gives up first.
            _ => Fault::Hang(Duration::from_millis(if rng.u8(..8) == 0 { 15_000 } else { rng.u64(300..=4_000) })),
        };
        if let Fault::Expired(more) = fault {
            faults.refusals_left = more;
        }
        let has_entries = operation.ends_with("Batch");
        (has_entries || !matches!(fault, Fault::Entries(_))).then_some(fault)
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Error(name, ..) => name,
            Self::Hang(_) => "AWS hangs",
            Self::Reset => "AWS resets before it acts",
            Self::Lost => "AWS acts, its answer is lost",
            Self::Late(_) => "AWS acts, and answers late",
            Self::Entries(_) => "AWS fails entries of a batch",
            Self::Expired(_) => "AWS refuses the credentials",
        }
    }

    fn name_at_table(self) -> &'static str {
        match self {
            Self::Error(_, 500, _) => "the table answers 500",
            Self::Error(..) => "the table throttles",
            Self::Hang(_) => "the table hangs",
            Self::Reset => "the table resets before it acts",
            Self::Lost => "the table acts, its answer is lost",
            Self::Late(_) => "the table acts, and answers late",
            Self::Entries(_) | Self::Expired(_) => "the table refuses the credentials",
        }
    }
}
