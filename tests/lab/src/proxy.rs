//! An HTTP proxy. It sends plain requests and tunnels to the configured address of a host, and records the hosts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The proxy. It ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: JoinHandle<()>,
}

/// One request or tunnel that the proxy was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The host and port: `hooks.slack.com:443`.
    pub host: String,
    /// Whether it was a tunnel, whose content the proxy cannot see.
    pub tunnel: bool,
    /// The credentials for the proxy: `Basic …`.
    pub authorization: Option<String>,
}

impl Proxy {
    /// Starts it on a free port of 127.0.0.1. `routes` has the addresses to which requests for a host and port go. Any other host that is
    /// not a loopback address is refused with 502, so nothing leaves this machine.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start<'a>(routes: impl IntoIterator<Item = (&'a str, SocketAddr)>) -> Result<Self> {
        let routes: HashMap<String, SocketAddr> = routes.into_iter().map(|(host, to)| (host.to_owned(), to)).collect();
        let routes = Arc::new(routes);
        let asked = Arc::new(Mutex::default());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                while let Ok((connection, _)) = listener.accept().await {
                    let (routes, asked) = (Arc::clone(&routes), Arc::clone(&asked));
                    tokio::spawn(async move { serve(connection, &routes, &asked).await });
                }
            }
        });
        Ok(Self { address, asked, server })
    }

    /// Its URL, for a program's environment.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request and tunnel so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// Whether it was asked for this host, with any port.
    pub fn saw(&self, host: &str) -> bool {
        self.asked().iter().any(|asked| asked.host.rsplit_once(':').is_some_and(|(name, _)| name == host))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves one connection: a tunnel, or one request, after which the connection is closed.
async fn serve(connection: TcpStream, routes: &HashMap<String, SocketAddr>, asked: &Mutex<Vec<Asked>>) -> Result<()> {
    let mut connection = BufReader::new(connection);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut words = lines.first().context("no request")?.split_whitespace();
    let (method, target) = (words.next().context("no method")?, words.next().context("no target")?);
    let tunnel = method == "CONNECT";
    let (host, path) = if tunnel {
        (target.to_owned(), "")
    } else {
        let rest = target.strip_prefix("http://").context("not an absolute URL")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        (
            if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
                host.into()
            } else {
                format!("{host}:80")
            },
            path,
        )
    };
    let header = |name: &str| {
        let named = |line: &&String| line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        lines.iter().find(named)?.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let authorization = header("proxy-authorization");
    asked.lock().push(Asked { host: host.clone(), tunnel, authorization });
    let local = host.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
    let Some(upstream) = routes.get(&host).copied().or(local) else {
        connection.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
        return Ok(());
    };
    let mut upstream = TcpStream::connect(upstream).await?;
    if tunnel {
        connection.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        let path = if path.is_empty() { "/" } else { path };
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        let of_the_proxy = ["connection:", "proxy-authorization:", "proxy-connection:"];
        for line in &lines[1..] {
            if !of_the_proxy.iter().any(|name| line.to_ascii_lowercase().starts_with(name)) {
                head += line;
            }
        }
        upstream.write_all((head + "\r\n").as_bytes()).await?;
    }
    copy_bidirectional(&mut connection, &mut upstream).await?;
    Ok(())
}
