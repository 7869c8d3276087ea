//! What the outside may ask over HTTP: `/metrics`, `/healthz`, `/readyz`.
//!
//! Who asks is not trusted to ask well. Invariant: whatever clients do, this server holds at most [`CONNECTIONS`] connections,
//! each with little memory and for a short time, and the newest is always served: a full house costs the oldest its place.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use metrics_process::Collector;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{consumer::Consumer, shutdown::Stop, slack::client::read_body};

/// More than those who ask need (a few Prometheus servers, a load balancer's and a container's health checks), and few beside
/// the descriptors that even a tight limit leaves to Slack and SQS.
const CONNECTIONS: usize = 32;
/// There are no fewer, however short of descriptors the process is.
const FEWEST_CONNECTIONS: usize = 4;
/// How long a client may take for the head of a request, and let a connection lie idle before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection lives: then the answer under way is the last. As long as Prometheus waits for a scrape.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long that last answer may take.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// A request's head, in bytes; the least that hyper can be told. There is no body.
const MAX_HEAD: usize = 8 * 1024;
/// After a connection could not be accepted, for want of a descriptor or of memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);
/// How long `health` waits for both answers: less than the five seconds that ECS gives a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// What the answers are made from.
#[derive(Debug)]
pub struct Status {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Whose pollers must be alive; set once start-up is over.
    pub running: OnceLock<Arc<Consumer>>,
    /// Tells when the drain begins.
    pub stop: Stop,
}

impl Status {
    /// Why this process should be restarted, if it should. Start-up has no pollers yet and is healthy; it ends by itself.
    fn unhealthy_reason(&self) -> Option<String> {
        self.running.get()?.unhealthy_reason()
    }

    fn unreadiness(&self) -> Option<&'static str> {
        match self.running.get() {
            _ if self.stop.borrow().is_some() => Some("stopping"),
            None => Some("starting: the queue or a webhook has not answered yet"),
            Some(_) => None,
        }
    }
}

/// Binds the address.
///
/// # Errors
/// When it cannot be bound, for example because it is in use.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    let hint = "choose another with LISTEN_ADDR or server.listen";
    TcpListener::bind(listen).await.map_err(|error| anyhow::anyhow!("cannot listen on {listen}: {error}; {hint}"))
}

/// Asks the worker that listens there, on this machine, whether it is healthy and ready: for a container's health check, without
/// curl. A worker that cannot reach AWS is still starting, and must not replace one that can.
///
/// # Errors
/// Why it is not, in its own words where it answers.
pub async fn ask_health(mut listen: SocketAddr) -> anyhow::Result<()> {
    if listen.ip().is_unspecified() {
        listen.set_ip(if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let client = reqwest::Client::builder().no_proxy().build()?;
    let ask = async {
        for path in ["/healthz", "/readyz"] {
            let response = client.get(format!("http://{listen}{path}")).send().await.map_err(|error| {
                let hint = "is the worker running, with the same LISTEN_ADDR (server.listen)?";
                let what = if error.is_connect() {
                    format!("nothing answers on {listen}: {hint}")
                } else {
                    format!("what answers on {listen} is not the worker, or broke off: {hint}")
                };
                anyhow::Error::new(error.without_url()).context(what)
            })?;
            let status = response.status();
            let mut body = Vec::new();
            // What broke off says nothing more, and its status has been said.
            let _ = read_body(response, &mut body).await;
            anyhow::ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(())
    };
    let answered = timeout(HEALTH_TIMEOUT, ask).await;
    answered.with_context(|| format!("nothing answers on {listen} within {} s", HEALTH_TIMEOUT.as_secs()))?
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, status: Arc<Status>) {
    let process = Collector::default();
    process.describe();
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    let mut most = CONNECTIONS;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                make_room(&mut connections, most - 1);
                connections.push_back(tokio::spawn(talk(stream, process.clone(), Arc::clone(&status))).abort_handle());
                // It answers what has arrived before the next connection can take its place, and everything else gets its turn.
                yield_now().await;
            }
            // Its client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => yield_now().await,
            Err(error) => {
                // What is short is wanted elsewhere too, so from now on there are fewer.
                if most > FEWEST_CONNECTIONS {
                    most = (most / 2).max(FEWEST_CONNECTIONS);
                    warn!(%error, "a connection for metrics and health cannot be accepted; at most {most} from now on");
                }
                make_room(&mut connections, most);
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Ends the oldest connections until at most `most` are left.
fn make_room(connections: &mut VecDeque<AbortHandle>, most: usize) {
    connections.retain(|connection| !connection.is_finished());
    let superfluous = connections.len().saturating_sub(most);
    connections.drain(..superfluous).for_each(|connection| connection.abort());
}

/// Serves one connection, within its time.
async fn talk(stream: TcpStream, process: Collector, status: Arc<Status>) {
    let service = service_fn(async |request| {
        // One answer a turn, however many were asked for at once: rendering takes its time, and others wait for theirs.
        yield_now().await;
        Ok::<_, Infallible>(respond(&request, &process, &status))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // What went wrong on a connection is the client's business.
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER, connection).await;
    }
}

fn respond(request: &Request<Incoming>, process: &Collector, status: &Status) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => {
            process.collect();
            let mut metrics = answer(StatusCode::OK, status.metrics.render());
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            metrics.headers_mut().insert(CONTENT_TYPE, format);
            metrics
        }
        "/healthz" => verdict(status.unhealthy_reason()),
        "/readyz" => verdict(status.unreadiness()),
        _ => answer(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".into()),
    }
}

fn verdict(trouble: Option<impl Into<String>>) -> Response<Full<Bytes>> {
    match trouble {
        None => answer(StatusCode::OK, "ok\n".into()),
        Some(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reason.into())),
    }
}

fn answer(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
