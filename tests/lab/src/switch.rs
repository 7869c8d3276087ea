//! A dead man's switch, such as healthchecks.io. It records the GET requests that it gets.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the switch answers.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// 200, "OK".
    #[default]
    Ok,
    /// This status and body.
    Status(u16, &'static str),
    /// 302, to this address.
    Redirect(String),
    /// No answer.
    Hang,
}

#[derive(Default)]
struct Seen {
    /// The path of each request.
    requests: Vec<String>,
    answer: Answer,
}

/// The switch. It ends when dropped.
pub struct Switch {
    base: String,
    seen: Arc<watch::Sender<Seen>>,
    server: JoinHandle<()>,
}

impl Switch {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let seen = Arc::new(watch::Sender::new(Seen::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(get(ping)).with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { base, seen, server })
    }

    /// The URL of a check.
    pub fn url(&self, check: &str) -> String {
        format!("{}/{check}", self.base)
    }

    /// Sets the answer to all further requests.
    pub fn answers(&self, answer: Answer) {
        self.seen.send_modify(|seen| seen.answer = answer);
    }

    /// The checks that were requested so far, in order.
    pub fn pings(&self) -> Vec<String> {
        self.seen.borrow().requests.clone()
    }

    /// Waits for `count` more requests.
    ///
    /// # Errors
    /// When `limit` has passed.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Result<()> {
        let wanted = self.pings().len() + count;
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(limit, seen.wait_for(|seen| seen.requests.len() >= wanted)).await.map(drop);
        waited.with_context(|| format!("not within {limit:?}: {count} requests more; there were {:?}", self.pings()))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn ping(State(seen): State<Arc<watch::Sender<Seen>>>, uri: Uri) -> Response {
    let mut answer = Answer::Ok;
    seen.send_modify(|seen| {
        seen.requests.push(uri.path().trim_start_matches('/').to_owned());
        answer = seen.answer.clone();
    });
    match answer {
        Answer::Ok => "OK".into_response(),
        Answer::Status(status, body) => {
            (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response()
        }
        Answer::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Answer::Hang => std::future::pending().await,
    }
}
