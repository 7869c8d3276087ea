//! The HTTP server: `/metrics`, `/healthz`, `/readyz`.
//!
//! Clients are not trusted. Invariant: whatever they do, this server holds at most [`MAX_CONNECTIONS`] connections, each with little
//! memory and for a short time. It always serves the newest: at the limit it closes the oldest.

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

use crate::{consumer::Consumer, shutdown::StopSignal, slack::client::read_body};

/// How many connections are open at most. The expected clients need fewer: a few Prometheus servers, a load balancer's and a container's
/// health checks. Even under a tight limit this leaves descriptors for Slack and SQS.
const MAX_CONNECTIONS: usize = 32;
/// The maximum is not reduced below this, however few descriptors the process has.
const MIN_CONNECTIONS: usize = 4;
/// How long a client may take to send the head of a request, including the time that the connection is idle before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection stays open. After that, the response in progress is the last one. Prometheus waits this long for a scrape.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long that last response may take.
const LAST_RESPONSE: Duration = Duration::from_secs(5);
/// The size of a request's head, in bytes: hyper's minimum. Requests have no body.
const MAX_HEAD: usize = 8 * 1024;
/// The pause after a connection could not be accepted, because descriptors or memory ran out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);
/// How long `health` waits for both responses: less than the five seconds that ECS gives a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// The sources of the responses.
#[derive(Debug)]
pub struct Status {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// The consumer, whose pollers must be alive. Set at the end of start-up.
    pub running: OnceLock<Arc<Consumer>>,
    /// Shows when the drain begins.
    pub stop: StopSignal,
}

impl Status {
    /// Why this process should be restarted, if it should. During start-up there are no pollers, and the process counts as healthy:
    /// start-up has its own time limit.
    fn unhealthy_reason(&self) -> Option<String> {
        self.running.get()?.unhealthy_reason()
    }

    fn unready_reason(&self) -> Option<&'static str> {
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

/// Asks the worker that listens on this address of this machine whether it is healthy and ready. A container's health check uses this,
/// so that it needs no curl. It also asks for readiness, so that a new worker that cannot reach AWS does not replace one that can.
///
/// # Errors
/// The worker's own reason if it responds, or why it does not respond.
pub async fn ask_health(mut listen: SocketAddr) -> anyhow::Result<()> {
    if listen.ip().is_unspecified() {
        listen.set_ip(if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let client = reqwest::Client::builder().no_proxy().build()?;
    let ask = async {
        for path in ["/healthz", "/readyz"] {
            let response = client.get(format!("http://{listen}{path}")).send().await.map_err(|error| {
                let hint = "check that the worker runs, and with the same LISTEN_ADDR (server.listen)";
                let what = if error.is_connect() {
                    format!("nothing answers on {listen}; {hint}")
                } else {
                    format!("what answers on {listen} is not the worker, or closed the connection; {hint}")
                };
                anyhow::Error::new(error.without_url()).context(what)
            })?;
            let status = response.status();
            let mut body = Vec::new();
            // If the body ends early, the error shows the status and the part that arrived.
            let _ = read_body(response, &mut body).await;
            anyhow::ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(())
    };
    let answered = timeout(HEALTH_TIMEOUT, ask).await;
    answered.with_context(|| format!("nothing answers on {listen} within {} s", HEALTH_TIMEOUT.as_secs()))?
}

/// Serves requests until the process ends.
pub async fn serve(listener: TcpListener, status: Arc<Status>) {
    let process = Collector::default();
    process.describe();
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    let mut limit = MAX_CONNECTIONS;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                close_oldest(&mut connections, limit - 1);
                connections.push_back(
                    tokio::spawn(serve_connection(stream, process.clone(), Arc::clone(&status))).abort_handle(),
                );
                // Lets the new connection respond to a request that has arrived before the next connection can replace it.
                yield_now().await;
            }
            // The client has closed the connection already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => yield_now().await,
            Err(error) => {
                // Slack and SQS need descriptors too, so the limit is halved.
                if limit > MIN_CONNECTIONS {
                    limit = (limit / 2).max(MIN_CONNECTIONS);
                    warn!(%error, "a connection for metrics and health cannot be accepted; from now on at most {limit} are open");
                }
                close_oldest(&mut connections, limit);
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Closes the oldest connections until at most `limit` are open.
fn close_oldest(connections: &mut VecDeque<AbortHandle>, limit: usize) {
    connections.retain(|connection| !connection.is_finished());
    let excess = connections.len().saturating_sub(limit);
    connections.drain(..excess).for_each(|connection| connection.abort());
}

/// Serves one connection, for a limited time.
async fn serve_connection(stream: TcpStream, process: Collector, status: Arc<Status>) {
    let service = service_fn(async |request| {
        // Lets other tasks run between two responses, even if one client sends many requests at once: rendering takes time.
        yield_now().await;
        Ok::<_, Infallible>(respond(&request, &process, &status))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // An error on a connection concerns the client only.
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_RESPONSE, connection).await;
    }
}

fn respond(request: &Request<Incoming>, process: &Collector, status: &Status) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            process.collect();
            let mut metrics = answer(StatusCode::OK, status.metrics.render());
            let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            metrics.headers_mut().insert(CONTENT_TYPE, format);
            metrics
        }
        "/healthz" => health_response(status.unhealthy_reason()),
        "/readyz" => health_response(status.unready_reason()),
        _ => answer(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".into()),
    }
}

fn health_response(reason: Option<impl Into<String>>) -> Response<Full<Bytes>> {
    match reason {
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
