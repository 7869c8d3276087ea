//! An endpoint that offers AWS credentials to a container, as those of ECS and EKS do. They have the configured token and are valid for six
//! hours. The endpoint fails on request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Script;
use crate::aws::ACCOUNT;
use crate::connection::{Connection, Connections};

/// The authorization token that a client must send.
const AUTHORIZATION: &str = "let-me-in";

/// How one request for credentials is answered.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// With credentials.
    #[default]
    Give,
    /// With this status.
    Status(u16),
    /// With a reset of the connection.
    Reset,
    /// No answer. The connection stays open.
    Hang,
}

struct Offer {
    script: Script<Answer>,
    token: String,
    asked: usize,
}

/// The endpoint. It ends when dropped.
pub struct Credentials {
    address: SocketAddr,
    offer: Arc<watch::Sender<Offer>>,
    server: JoinHandle<()>,
}

impl Credentials {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(token: &str) -> Result<Self> {
        let offer = Offer { script: Script::default(), token: token.to_owned(), asked: 0 };
        let offer = Arc::new(watch::Sender::new(offer));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&offer))
            .into_make_service_with_connect_info::<Connection>();
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(Connections::of(listener), router).await;
        });
        Ok(Self { address, offer, server })
    }

    /// The environment variables with which a program gets its credentials only from here.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/credentials", self.address)),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", AUTHORIZATION.into()),
            ("AWS_ACCESS_KEY_ID", String::new()),
            ("AWS_SECRET_ACCESS_KEY", String::new()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the token of all further credentials.
    pub fn give(&self, token: &str) {
        self.offer.send_modify(|offer| offer.token = token.to_owned());
    }

    /// Sets the answers to the next requests, one after the other.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.offer.send_modify(|offer| offer.script.once.extend(answers));
    }

    /// Sets the answer to every request after the script.
    pub fn always(&self, answer: Answer) {
        self.offer.send_modify(|offer| offer.script.always = answer);
    }

    /// The number of requests so far.
    pub fn asked(&self) -> usize {
        self.offer.borrow().asked
    }

    /// Waits for this number of requests.
    ///
    /// # Errors
    /// After `limit`, with the number of requests so far.
    pub async fn wait_for(&self, asked: usize, limit: Duration) -> Result<()> {
        let mut offer = self.offer.subscribe();
        let waited = tokio::time::timeout(limit, offer.wait_for(|offer| offer.asked >= asked)).await.map(drop);
        waited.with_context(|| format!("not within {limit:?}; it was asked {} times", self.asked()))
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(offer): State<Arc<watch::Sender<Offer>>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
) -> Response {
    let (mut answer, mut token) = (Answer::Give, String::new());
    offer.send_modify(|offer| {
        offer.asked += 1;
        (answer, token) = (offer.script.next(), offer.token.clone());
    });
    match answer {
        Answer::Give if headers.get(header::AUTHORIZATION).is_none_or(|given| given != AUTHORIZATION) => {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        Answer::Give => {
            let expiration = OffsetDateTime::from(SystemTime::now() + Duration::from_secs(6 * 3600));
            let credentials = json!({
                // The emulator takes the access key as the account's id. The token identifies the credentials.
                "AccessKeyId": ACCOUNT,
                "SecretAccessKey": "secret",
                "Token": token,
                "Expiration": expiration.format(&Rfc3339).unwrap_or_default(),
            });
            return ([(header::CONTENT_TYPE, "application/json")], credentials.to_string()).into_response();
        }
        Answer::Status(status) => {
            return StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT).into_response();
        }
        Answer::Reset => connection.reset(b""),
        Answer::Hang => {}
    }
    // Waits until the connection ends, which drops this future.
    std::future::pending().await
}
