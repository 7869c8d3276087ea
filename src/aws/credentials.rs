//! Caches credentials until they expire, or until AWS answers that they have expired. [`Watch`] inspects every answer of AWS. If
//! AWS refuses the credentials that signed a request, [`Watch`] removes them from the [`Cache`], so that the next request of any
//! client fetches fresh ones.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use aws_config::identity::IdentityCache;
use aws_credential_types::{Credentials, provider::error::CredentialsError};
use aws_sdk_sqs::config::{ConfigBag, RuntimeComponents, SharedHttpClient, SharedIdentityCache};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    identity::{IdentityFuture, ResolveCachedIdentity, SharedIdentityResolver},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponentsBuilder,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use serde_json::Value;
use tokio::time::timeout;
use tracing::info;

use super::error::{ErrorClass, find};

/// How long a request waits for credentials: less than the request's own timeout, so that the error names the credentials.
const LOAD_TIMEOUT: Duration = super::ATTEMPT_TIMEOUT.saturating_sub(Duration::from_secs(1));

/// There are no credentials to sign a request with.
#[derive(Debug)]
pub(super) struct CredentialsFailure {
    /// True if there is no source of credentials, or it is misconfigured. False if the source failed.
    pub(super) permanent: bool,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for CredentialsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.permanent {
            "no source offers AWS credentials (variables, profile, container, instance)"
        } else {
            "the source of the AWS credentials failed"
        })
    }
}

impl Error for CredentialsFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// The credentials of this process, for all clients.
#[derive(Debug)]
pub(super) struct Cache(Mutex<Cached>);

#[derive(Debug)]
struct Cached {
    cache: SharedIdentityCache,
    /// The credentials that the cache returned last.
    returned: Option<Credentials>,
}

impl Default for Cache {
    fn default() -> Self {
        Self(Mutex::new(Cached { cache: empty(), returned: None }))
    }
}

fn empty() -> SharedIdentityCache {
    IdentityCache::lazy().load_timeout(LOAD_TIMEOUT).build()
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, Cached> {
        self.0.lock()
    }

    /// Removes the credentials that made `signature`. Fresher ones stay.
    fn remove_if_used(&self, signature: &Signature) {
        let mut state = self.state();
        if state.returned.as_ref().is_some_and(|returned| signature.is_made_with(returned)) {
            *state = Cached { cache: empty(), returned: None };
            info!("AWS refused the cached credentials; fetching fresh ones");
        }
    }
}

/// The cache, as the SDK's identity cache.
#[derive(Debug)]
pub(super) struct Renewable(pub(super) Arc<Cache>);

impl ResolveCachedIdentity for Renewable {
    fn resolve_cached_identity<'a>(
        &'a self,
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        config: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        IdentityFuture::new(async move {
            let cache = self.0.state().cache.clone();
            let resolved = cache.resolve_cached_identity(resolver, components, config);
            // The cache limits only its own look-up. A request that waits for another request's look-up, and then begins its own,
            // would take longer.
            let resolved = timeout(LOAD_TIMEOUT, resolved).await.unwrap_or_else(|elapsed| Err(elapsed.into()));
            let identity = resolved.map_err(|source| {
                let cause = find::<CredentialsError>(&*source);
                let permanent = matches!(
                    cause,
                    Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_))
                );
                CredentialsFailure { permanent, source }
            })?;
            self.0.state().returned = identity.data::<Credentials>().cloned();
            Ok(identity)
        })
    }
}

/// Identifies the credentials that a request was signed with.
struct Signature {
    authorization: String,
    token: Option<String>,
}

impl Signature {
    fn of(request: &HttpRequest) -> Option<Self> {
        let header = |name| request.headers().get(name).map(str::to_owned);
        Some(Self { authorization: header("authorization")?, token: header("x-amz-security-token") })
    }

    fn is_made_with(&self, credentials: &Credentials) -> bool {
        // AWS4-HMAC-SHA256 Credential=AKIA…/20261125/eu-west-1/sqs/aws4_request, …
        let key = self.authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
        key == Some(credentials.access_key_id()) && self.token.as_deref() == credentials.session_token()
    }
}

/// An HTTP client that inspects AWS's answers.
#[derive(Debug)]
pub(super) struct Watch {
    client: SharedHttpClient,
    cache: Arc<Cache>,
}

impl Watch {
    pub(super) fn new(client: SharedHttpClient, cache: Arc<Cache>) -> Self {
        Self { client, cache }
    }
}

impl HttpClient for Watch {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Watched {
            connector: self.client.http_connector(settings, components),
            cache: Arc::clone(&self.cache),
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.client.validate_base_client_config(components, config)
    }
}

#[derive(Debug)]
struct Watched {
    connector: SharedHttpConnector,
    cache: Arc<Cache>,
}

impl HttpConnector for Watched {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let signature = Signature::of(&request);
        let answer = self.connector.call(request);
        let cache = Arc::clone(&self.cache);
        HttpConnectorFuture::new(async move {
            let mut response = answer.await?;
            // An answer without a signature comes from the source of the credentials.
            if let Some(signature) = signature.filter(|_| matches!(response.status().as_u16(), 400 | 401 | 403)) {
                let body = ByteStream::new(response.take_body()).collect().await;
                let body = body.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
                let class = ErrorClass::of_code(&error_code(&response, &body).unwrap_or_default(), "", false);
                if class.is_about_stale_credentials() {
                    cache.remove_if_used(&signature);
                }
                *response.body_mut() = SdkBody::from(body);
            }
            Ok(response)
        })
    }
}

/// The error code of an answer, from a header or from the body, of a service with a JSON or XML protocol.
fn error_code(response: &HttpResponse, body: &[u8]) -> Option<String> {
    let code = match response.headers().get("x-amzn-errortype") {
        Some(header) => header.split(':').next()?.to_owned(),
        None => match serde_json::from_slice::<Value>(body) {
            Ok(error) => error.get("__type").or_else(|| error.get("code"))?.as_str()?.to_owned(),
            Err(_) => {
                let text = std::str::from_utf8(body).ok()?;
                text.split_once("<Code>")?.1.split_once("</Code>")?.0.to_owned()
            }
        },
    };
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(key: &str, token: Option<&str>) -> Credentials {
        Credentials::new(key, "secret", token.map(str::to_owned), None, "test")
    }

    fn signature(key: &str, token: Option<&str>) -> Signature {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={key}/20261125/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
        );
        Signature { authorization, token: token.map(str::to_owned) }
    }

    #[test]
    fn only_the_refused_credentials_are_removed() {
        let cache = Cache::default();
        let holds = || cache.state().returned.is_some();
        cache.state().returned = Some(credentials("AKIA2", Some("new")));
        for other in [signature("AKIA1", Some("old")), signature("AKIA2", Some("old")), signature("AKIA2", None)] {
            cache.remove_if_used(&other);
            assert!(holds(), "a late answer to a request with older credentials");
        }
        cache.remove_if_used(&signature("AKIA2", Some("new")));
        assert!(!holds());
        cache.state().returned = Some(credentials("AKIA3", None));
        cache.remove_if_used(&signature("AKIA3", None));
        assert!(!holds());
    }

    #[test]
    fn the_error_code_is_found_in_every_protocol() {
        for (header, body, code) in [
            (
                None,
                r#"{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"x"}"#,
                Some("com.amazon.coral.service#ExpiredTokenException"),
            ),
            (None, r#"{"code":"ExpiredToken"}"#, Some("ExpiredToken")),
            (Some("ExpiredTokenException:http://internal.amazon.com/"), "{}", Some("ExpiredTokenException")),
            (
                None,
                "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code></Error></ErrorResponse>",
                Some("ExpiredToken"),
            ),
            (None, "<html>", None),
            (None, "", None),
            (None, "[]", None),
        ] {
            let mut response = HttpResponse::new(400.try_into().unwrap(), SdkBody::empty());
            if let Some(header) = header {
                response.headers_mut().insert("x-amzn-errortype", header);
            }
            assert_eq!(error_code(&response, body.as_bytes()).as_deref(), code, "{body}");
        }
    }
}
