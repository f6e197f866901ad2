//! TLS on the listener: certificate and key from files, read again when they change.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tracing::info;

use crate::config::Tls;
use crate::format::plain;
use crate::task::Tasks;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Certificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Makes the acceptor, and keeps its certificate up to date until Larder stops.
pub fn acceptor(config: &Tls, tasks: &Tasks) -> Result<TlsAcceptor, String> {
    let certificate = Arc::new(Certificate(ArcSwap::from_pointee(read(config)?)));
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (config, mut seen) = (config.clone(), changed(config));
    let mut look = move || {
        let now = changed(&config);
        if now != seen {
            // Fails, and is retried, while one of the two files is new and the other still old.
            certificate.0.store(Arc::new(read(&config)?));
            info!("The listener's new certificate is in use");
            seen = now;
        }
        Ok::<_, String>(())
    };
    let what = "the listener's certificate";
    tasks.poll(what, || LOOK_EVERY, move || std::future::ready(look()));
    Ok(TlsAcceptor::from(Arc::new(server)))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the configuration names these files"
)]
fn changed(config: &Tls) -> [Option<SystemTime>; 2] {
    [&config.certificate, &config.key]
        .map(|file| std::fs::metadata(file).and_then(|it| it.modified()).ok())
}

fn read(config: &Tls) -> Result<CertifiedKey, String> {
    let unread = |file: &Path, error: pem::Error, what: &str| match error {
        pem::Error::Io(error) => {
            format!("{} cannot be read: {}", file.display(), plain::io(&error))
        }
        _ => format!("{} holds no {what} in PEM", file.display()),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unread(&config.certificate, error, "certificate"))?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| unread(&config.key, error, "private key"))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|_| {
        let (certificate, key) = (config.certificate.display(), config.key.display());
        format!("{certificate} is no certificate of the key in {key}")
    })
}
