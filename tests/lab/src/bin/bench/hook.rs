//! A Slack that takes everything at once and remembers when: the strict one of the lab would be part of what is measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use parking_lot::Mutex;
use tokio::net::TcpListener;

type Posts = Arc<Mutex<Vec<(Instant, Bytes)>>>;

/// Webhooks of every name. They live as long as this program.
pub(crate) struct Hook {
    address: SocketAddr,
    posts: Posts,
}

impl Hook {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let posts = Posts::default();
        let router = Router::new().fallback(take).with_state(Arc::clone(&posts));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, posts })
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/services/T00000000/B00000000/{name}", self.address)
    }

    /// When each post so far came, and its payload.
    pub(crate) fn posts(&self) -> Vec<(Instant, Bytes)> {
        self.posts.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.posts.lock().len()
    }
}

async fn take(State(posts): State<Posts>, body: Bytes) -> &'static str {
    posts.lock().push((Instant::now(), body));
    "ok"
}
