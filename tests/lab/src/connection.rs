//! A TCP connection that a request handler can break.

use std::io::Write;
use std::net::Shutdown;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use socket2::{SockFilter, SockRef};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// One TCP connection: a second handle to its socket.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// Counted from 1.
    pub(crate) number: u64,
    socket: Arc<std::net::TcpStream>,
}

/// A handle that does not keep a connection open.
pub(crate) struct WeakConnection {
    number: u64,
    socket: Weak<std::net::TcpStream>,
}

impl WeakConnection {
    /// The connection, unless it has ended.
    pub(crate) fn upgrade(&self) -> Option<Connection> {
        Some(Connection { number: self.number, socket: self.socket.upgrade()? })
    }
}

impl Connection {
    /// A handle that does not keep it open.
    pub(crate) fn downgrade(&self) -> WeakConnection {
        WeakConnection { number: self.number, socket: Arc::downgrade(&self.socket) }
    }

    /// Sends `bytes`, as they are.
    pub(crate) fn send(&self, bytes: &[u8]) {
        // An error means that the other end is gone.
        let _ = (&*self.socket).write_all(bytes);
    }

    /// Sends `part` again and again, as fast as the other end reads it, until the other end is gone.
    pub(crate) async fn send_endlessly(&self, part: &[u8]) {
        let socket = self.socket.try_clone().and_then(TcpStream::from_std);
        if let Ok(mut socket) = socket {
            while socket.write_all(part).await.is_ok() {}
        }
    }

    /// Drops every packet that arrives on this connection from now on, without a notice to either end, as a NAT does after it has
    /// forgotten the connection.
    pub(crate) fn forget(&self) {
        // A filter that drops everything: `ret 0` (linux/bpf_common.h).
        const RETURN: u16 = 0x06;
        let _ = SockRef::from(&*self.socket).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]);
    }

    /// Closes it in an orderly way.
    pub(crate) fn close(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Sends `bytes`, then resets the connection instead of closing it in an orderly way.
    pub(crate) fn reset(&self, bytes: &[u8]) {
        // An error means that the other end is already gone, which has the same effect.
        self.send(bytes);
        let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
        // The HTTP server then sees the end of its input and closes the connection. With a linger of zero, that is a reset.
        let _ = self.socket.shutdown(Shutdown::Read);
    }
}

/// A listener whose connections can be identified and broken.
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
        // A listener has no connection. This is never called.
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Connections>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.remote_addr().clone()
    }
}
