//! TLS in front of a stand-in. Its certificate is from a certificate authority that clients trust only if they are configured to.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A certificate authority. Its file is deleted when it is dropped.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// Creates one, and writes its certificate to a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let file = std::env::temp_dir().join(crate::unique("authority") + ".pem");
        fs::write(&file, issuer.pem())?;
        Ok(Self { issuer, file })
    }

    /// The file with its certificate in PEM form, which a client must trust.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Listens on a free port of 127.0.0.1 with a certificate for `names`, which may be addresses, and forwards everything to `upstream`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(&self, upstream: SocketAddr, names: &[&str]) -> Result<Tls> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate ends the connection here.
                    let mut connection = acceptor.accept(connection).await?;
                    copy_bidirectional(&mut connection, &mut TcpStream::connect(upstream).await?).await
                });
            }
        });
        Ok(Tls { address, server })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// A listener that speaks TLS. It ends when dropped.
pub struct Tls {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Tls {
    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.server.abort();
    }
}
