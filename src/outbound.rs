//! Outbound connections: which of them use a proxy, and which CA certificates are trusted. AWS and Slack share the rules.
//!
//! * `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case, choose a proxy. Endpoints that give credentials to
//!   this container or instance are always requested directly: a proxy cannot reach them, or reaches those of its own machine.
//! * The system's CA certificates are trusted, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR` in their place. Those of `AWS_CA_BUNDLE` are
//!   trusted in addition.

use std::{collections::HashMap, env, error::Error, fmt, fs, net::IpAddr, path::Path, sync::Arc, time::Duration};

use aws_sdk_sqs::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::{
    Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::HttpRequest,
    result::ConnectorError,
};
use parking_lot::Mutex;
use reqwest::{Certificate, Url};
use rustls_native_certs::load_native_certs;
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The addresses at which ECS, EKS and EC2 give credentials.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html>
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>
const CREDENTIAL_ADDRESSES: [&str; 5] =
    ["169.254.170.2", "169.254.170.23", "fd00:ec2::23", "169.254.169.254", "fd00:ec2::254"];

/// Variables with a URL that replaces these addresses.
const CREDENTIAL_URLS: [&str; 2] = ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT"];

/// The variables that name a proxy. The clients use the first variable of a pair that is set, even if it is empty.
const PROXIES: [[&str; 2]; 3] =
    [["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The settings for connections from the environment, checked.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// The certificates of `AWS_CA_BUNDLE`, as PEM.
    bundle: Option<String>,
    has_system_certificates: bool,
    has_proxy: bool,
    /// Hosts and ports that give credentials, in addition to [`CREDENTIAL_ADDRESSES`].
    credential_hosts: Vec<(String, Option<u16>)>,
}

/// What is wrong with a variable: its name, the fault, and what is accepted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OutboundError(String);

impl Outbound {
    /// Reads and checks the variables.
    ///
    /// # Errors
    /// When the URL of a proxy is invalid, or certificates cannot be used.
    pub fn from_env() -> Result<Self, OutboundError> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let mut has_proxy = false;
        for names in PROXIES {
            if let Some((name, value)) = names.iter().find_map(|name| Some((name, env::var(name).ok()?)))
                && !value.is_empty()
            {
                check_proxy(&value).map_err(|fault| OutboundError(format!("{name}: {fault}")))?;
                has_proxy = true;
            }
        }
        let has_system_certificates = check_system_certificates()?;
        let bundle = set("AWS_CA_BUNDLE").map(|path| certificates("AWS_CA_BUNDLE", Path::new(&path))).transpose()?;
        if !has_system_certificates && bundle.is_none() {
            return Err(OutboundError(
                "no CA certificates were found on this system, nor in SSL_CERT_DIR if it is set; install them \
                 (ca-certificates), or name a PEM file with SSL_CERT_FILE"
                    .into(),
            ));
        }
        let credential_hosts = CREDENTIAL_URLS.iter().filter_map(|name| Url::parse(&set(name)?).ok());
        // With https the endpoint may be on another machine, so it may need the proxy.
        let credential_hosts = credential_hosts.filter(|url| url.scheme() == "http");
        let credential_hosts = credential_hosts
            .filter_map(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default())))
            .collect();
        let outbound = Self { bundle, has_system_certificates, has_proxy, credential_hosts };
        outbound.client().build().map_err(|error| {
            OutboundError(format!("TLS cannot be set up with the CA certificates: {}", innermost(&error)))
        })?;
        Ok(outbound)
    }

    /// A builder of an HTTP client with these proxies and certificates.
    pub fn client(&self) -> reqwest::ClientBuilder {
        let bundle = self.bundle.as_ref().map(|pem| Certificate::from_pem_bundle(pem.as_bytes()));
        let bundle = bundle.and_then(Result::ok).unwrap_or_default();
        let client = reqwest::Client::builder();
        if self.has_system_certificates { client.tls_certs_merge(bundle) } else { client.tls_certs_only(bundle) }
    }

    /// The client for AWS.
    pub fn aws(&self) -> SharedHttpClient {
        let mut trust = TrustStore::empty().with_native_roots(self.has_system_certificates);
        if let Some(bundle) = &self.bundle {
            trust.add_pem_certificate(bundle.as_str());
        }
        let tls = TlsContext::builder().with_trust_store(trust).build().unwrap_or_default();
        SharedHttpClient::new(AwsHttp { outbound: Arc::new(self.clone()), tls, connectors: Mutex::default() })
    }

    /// Whether a URL is an endpoint that gives credentials.
    fn gives_credentials(&self, url: &str) -> bool {
        let Ok(url) = Url::parse(url) else { return false };
        let Some(host) = url.host_str() else { return false };
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        address.is_some_and(|address| CREDENTIAL_ADDRESSES.iter().any(|known| known.parse() == Ok(address)))
            || self.credential_hosts.iter().any(|(known, port)| known == host && *port == url.port_or_known_default())
    }
}

fn check_proxy(value: &str) -> Result<(), &'static str> {
    // The value is not shown: it may hold a password.
    let with_scheme = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&with_scheme).map_err(|_| "it is not a URL; write e.g. http://proxy.example.com:3128")?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(()),
        "http" | "https" => Err("it names no host; write e.g. http://proxy.example.com:3128"),
        _ => Err(
            "a proxy of this kind is not supported; write an http:// or https:// URL, e.g. http://proxy.example.com:3128",
        ),
    }
}

/// Checks `SSL_CERT_FILE` and `SSL_CERT_DIR`. Returns whether there are CA certificates other than those of `AWS_CA_BUNDLE`.
fn check_system_certificates() -> Result<bool, OutboundError> {
    if let Some(file) = env::var_os("SSL_CERT_FILE") {
        certificates("SSL_CERT_FILE", Path::new(&file))?;
    }
    let folders = env::var_os("SSL_CERT_DIR").unwrap_or_default();
    for folder in env::split_paths(&folders).filter(|path| !path.as_os_str().is_empty()) {
        fs::read_dir(&folder)
            .map_err(|error| OutboundError(format!("SSL_CERT_DIR: {folder:?} cannot be read: {error}")))?;
    }
    Ok(!load_native_certs().certs.is_empty())
}

/// The certificates in a file, as PEM, without those that the TLS library cannot use: a system's bundle may have some.
fn certificates(variable: &str, path: &Path) -> Result<String, OutboundError> {
    let fault = |what: &str| OutboundError(format!("{variable}: {path:?} {what}"));
    let text = fs::read(path).map_err(|error| fault(&format!("cannot be read: {error}")))?;
    let (mut found, mut usable) = (0, String::new());
    for rest in String::from_utf8_lossy(&text).split(BEGIN).skip(1) {
        let (body, _) =
            rest.split_once(END).ok_or_else(|| fault("is cut short: a PEM certificate in it has no end"))?;
        let block = format!("{BEGIN}{body}{END}\n");
        let der = CertificateDer::from_pem_slice(block.as_bytes())
            .map_err(|error| fault(&format!("holds a certificate that is not PEM: {error}")))?;
        found += 1;
        if webpki::anchor_from_trusted_cert(&der).is_ok() {
            usable += &block;
        }
    }
    match found {
        0 => Err(fault(&format!("holds no PEM certificate ({BEGIN})"))),
        _ if usable.is_empty() => Err(fault("holds no certificate that can be used: none is an X.509 certificate")),
        _ => Ok(usable),
    }
}

/// The innermost source of an error.
fn innermost(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

/// The client for AWS: the SDK's own client, with these proxies and certificates.
struct AwsHttp {
    outbound: Arc<Outbound>,
    tls: TlsContext,
    /// A connector pools its connections, so each is built once.
    connectors: Mutex<HashMap<Timeouts, SharedHttpConnector>>,
}

/// The connect timeout and the read timeout.
type Timeouts = (Option<Duration>, Option<Duration>);

impl fmt::Debug for AwsHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsHttp")
    }
}

impl HttpClient for AwsHttp {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = |proxies| {
            let mut builder = Connector::builder()
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(self.tls.clone())
                .proxy_config(proxies)
                .connector_settings(settings.clone());
            builder.set_sleep_impl(components.sleep_impl());
            builder.build()
        };
        let made = || {
            SharedHttpConnector::new(ProxyConnector {
                outbound: Arc::clone(&self.outbound),
                usual: connector(ProxyConfig::from_env()),
                direct: self.outbound.has_proxy.then(|| connector(ProxyConfig::disabled())),
            })
        };
        let mut connectors = self.connectors.lock();
        connectors.entry((settings.connect_timeout(), settings.read_timeout())).or_insert_with(made).clone()
    }
}

#[derive(Debug)]
struct ProxyConnector {
    outbound: Arc<Outbound>,
    usual: Connector,
    /// Connects without a proxy; only if the usual connector has one.
    direct: Option<Connector>,
}

impl HttpConnector for ProxyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let direct = self.direct.as_ref().filter(|_| self.outbound.gives_credentials(request.uri()));
        let answer = direct.unwrap_or(&self.usual).call(request);
        HttpConnectorFuture::new(async move {
            answer.await.map_err(|error| {
                if error.is_timeout() || error.is_io() || error.is_user() || error.as_other().is_some() {
                    return error;
                }
                // The answer was not HTTP. This counts as a connection failure, which is retried.
                ConnectorError::io(error.into())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_gives_credentials_is_recognised() {
        let outbound = Outbound {
            bundle: None,
            has_system_certificates: true,
            has_proxy: true,
            credential_hosts: vec![("127.0.0.1".into(), Some(4567))],
        };
        for url in [
            "http://169.254.170.2/v2/credentials/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fd00:ec2:0::254]/latest/api/token",
            "http://169.254.169.254/latest/api/token",
            "http://169.254.169.254:80/latest/api/token",
            "http://127.0.0.1:4567/creds",
        ] {
            assert!(outbound.gives_credentials(url), "{url}");
        }
        for url in
            ["http://127.0.0.1:4566/", "https://sqs.eu-west-1.amazonaws.com/", "http://169.254.170.2.example.com/", "x"]
        {
            assert!(!outbound.gives_credentials(url), "{url}");
        }
    }

    #[test]
    fn only_http_proxies_are_accepted() {
        for good in
            ["http://proxy:3128", "https://user:sesame@proxy.example.com", "proxy.example.com:3128", "10.0.0.1:80"]
        {
            assert_eq!(check_proxy(good), Ok(()), "{good}");
        }
        for bad in ["socks5://proxy:1080", "http://", "http://a b", "ftp://proxy", "://"] {
            let fault = check_proxy(bad).unwrap_err();
            assert!(fault.contains("http://proxy.example.com:3128"), "{bad}: {fault}");
        }
    }
}
