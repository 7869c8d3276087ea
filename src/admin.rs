//! What the outside may ask over HTTP: `/metrics`, `/healthz`, `/readyz`.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use metrics_process::Collector;
use tokio::net::TcpListener;

use crate::{consumer::Consumer, slack::Stop};

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
    fn sickness(&self) -> Option<String> {
        self.running.get()?.sickness()
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
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(3)).build()?;
    for path in ["/healthz", "/readyz"] {
        let response = client.get(format!("http://{listen}{path}")).send().await?;
        let status = response.status();
        anyhow::ensure!(status.is_success(), "{path}: {status}: {}", response.text().await.unwrap_or_default().trim());
    }
    Ok(())
}

/// Answers until the process ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, status: Arc<Status>) -> std::io::Result<()> {
    let process = Collector::default();
    process.describe();
    let router = Router::new()
        .route(
            "/metrics",
            get(async move |State(status): State<Arc<Status>>| {
                process.collect();
                ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], status.metrics.render())
            }),
        )
        .route("/healthz", get(async |State(status): State<Arc<Status>>| answer(status.sickness())))
        .route("/readyz", get(async |State(status): State<Arc<Status>>| answer(status.unreadiness())))
        .with_state(status);
    axum::serve(listener, router).await
}

fn answer(trouble: Option<impl Into<String>>) -> (StatusCode, String) {
    match trouble {
        None => (StatusCode::OK, "ok\n".into()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reason.into())),
    }
}
