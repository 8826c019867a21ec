//! An authority of a test's own, which vouches for receivers over TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

/// Its certificate is in a file until it is dropped.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = Uuid::now_v7().to_string();
        params.distinguished_name.push(DnType::CommonName, &name);
        let key = KeyPair::generate().unwrap();
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("pem");
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// What a process of ours needs to trust it, as an environment variable.
    pub fn trusted(&self) -> (String, String) {
        ("SSL_CERT_FILE".to_owned(), self.file.to_str().unwrap().to_owned())
    }

    /// Accepts connections for this name or address, and speaks this protocol (`h2`, `http/1.1`).
    pub fn acceptor(&self, name: &str, protocol: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        config.alpn_protocols = vec![protocol.into()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
