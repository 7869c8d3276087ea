//! A TCP connection that a request handler can break.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};

/// One TCP connection: a second handle to its socket.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// Counted from 1.
    pub(crate) number: u64,
    socket: Arc<std::net::TcpStream>,
}

impl Connection {
    /// Sends `bytes`, then a reset in place of an orderly end.
    pub(crate) fn reset(&self, bytes: &[u8]) {
        // Errors mean that the other end was faster: it is gone, which is what was wanted.
        let _ = (&*self.socket).write_all(bytes);
        let _ = socket2::SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
        // The HTTP server sees the end of its input and closes; without linger that is a reset.
        let _ = self.socket.shutdown(Shutdown::Read);
    }
}

/// A listener whose connections can be told apart and broken.
pub(crate) struct Connections {
    listener: TcpListener,
    count: u64,
}

impl Connections {
    pub(crate) fn of(listener: TcpListener) -> Self {
        Self { listener, count: 0 }
    }
}

impl Listener for Connections {
    type Io = TcpStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (TcpStream, Connection) {
        loop {
            let (stream, _) = Listener::accept(&mut self.listener).await;
            self.count += 1;
            let number = self.count;
            let handles = stream.into_std().and_then(|socket| {
                let second = Arc::new(socket.try_clone()?);
                Ok((TcpStream::from_std(socket)?, Connection { number, socket: second }))
            });
            if let Ok(handles) = handles {
                return handles;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Connection> {
        // A listener has no connection, and nobody asks.
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Connections>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.remote_addr().clone()
    }
}
