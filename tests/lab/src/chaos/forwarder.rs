//! Forwards connections to Slack. While it is closed, its connections are broken and new ones are refused.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A port that forwards to another one while it is open.
pub(super) struct Forwarder {
    address: SocketAddr,
    to: SocketAddr,
    passage: Mutex<JoinHandle<()>>,
}

impl Forwarder {
    pub(super) async fn open_to(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { address, to, passage: Mutex::new(tokio::spawn(pass(listener, to))) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, and refuses new ones. Returns the time.
    pub(super) fn close(&self) -> Instant {
        self.passage.lock().abort();
        Instant::now()
    }

    /// Accepts connections again.
    pub(super) async fn open(&self) -> Result<()> {
        let mut listener = TcpListener::bind(self.address).await;
        // The aborted task may not have released the port yet.
        while listener.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            tokio::task::yield_now().await;
            listener = TcpListener::bind(self.address).await;
        }
        *self.passage.lock() = tokio::spawn(pass(listener?, self.to));
        Ok(())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.passage.lock().abort();
    }
}

async fn pass(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        connections.spawn(async move {
            if let Ok(mut to) = TcpStream::connect(to).await {
                // An error ends the connection too.
                let _ = copy_bidirectional(&mut from, &mut to).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
