//! TLS to targets: authorities, the client's certificate and the name to verify, from files that may change.
//!
//! Certificates are rotated under a running server, so the files are looked at before each new connection, and read again
//! when one of them changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

/// What TLS calls HTTP/2.
pub const HTTP2: &[u8] = b"h2";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The name that the certificate must have; the URL's host when None.
    pub server_name: Option<String>,
    pub insecure_skip_verify: bool,
    /// TLS 1.3 and nothing older.
    pub only_13: bool,
    /// TLS 1.2 and nothing newer.
    pub only_12: bool,
    /// Speak HTTP/2 where the server does.
    pub http2: bool,
}

impl TlsSettings {
    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        match (self.only_12, self.only_13) {
            (true, _) => vec![&TLS12],
            (_, true) => vec![&TLS13],
            _ => vec![&TLS13, &TLS12],
        }
    }
}

/// When each file was last written; None where it cannot be told.
type Stamp = Vec<Option<SystemTime>>;

pub struct Tls {
    settings: TlsSettings,
    current: Mutex<Option<(Stamp, Arc<ClientConfig>)>>,
}

impl Tls {
    pub fn new(settings: TlsSettings) -> Tls {
        Tls { settings, current: Mutex::default() }
    }

    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is no name that a certificate can have; set server_name"))
    }

    /// The configuration that the files now give.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let stamp = self.stamp();
        let mut current = self.current.lock();
        if let Some((known, config)) = &*current {
            if *known == stamp {
                return Ok(config.clone());
            }
        }
        let mut config = self.read()?;
        if self.settings.http2 {
            config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        }
        let config = Arc::new(config);
        *current = Some((stamp, config.clone()));
        Ok(config)
    }

    fn stamp(&self) -> Stamp {
        let written = |path: &Option<PathBuf>| std::fs::metadata(path.as_ref()?).and_then(|m| m.modified()).ok();
        [&self.settings.ca_file, &self.settings.cert_file, &self.settings.key_file].map(written).to_vec()
    }

    fn read(&self) -> Result<ClientConfig, String> {
        let settings = &self.settings;
        let provider = Arc::new(ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&settings.versions());
        let builder = versions.map_err(|e| format!("cannot set up TLS: {e}"))?;
        let builder = if settings.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAll(provider)))
        } else {
            builder.with_root_certificates(roots(settings.ca_file.as_deref())?)
        };
        let (cert_file, key_file) = match (&settings.cert_file, &settings.key_file) {
            (None, None) => return Ok(builder.with_no_client_auth()),
            (Some(cert), Some(key)) => (cert, key),
            _ => return Err("cert_file and key_file belong together: set both or neither".into()),
        };
        let key =
            PrivateKeyDer::from_pem_file(key_file).map_err(|e| format!("cannot read key_file {}: {e}", key_file.display()))?;
        builder
            .with_client_auth_cert(certificates(cert_file, "cert_file")?, key)
            .map_err(|e| format!("cannot use cert_file {}: {e}", cert_file.display()))
    }
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |e: rustls::pki_types::pem::Error| format!("cannot read {key} {}: {e}", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(fail)?.collect();
    let found = found.map_err(fail)?;
    if found.is_empty() {
        return Err(format!("cannot read {key} {}: it holds no certificate in PEM", path.display()));
    }
    Ok(found)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path, "ca_file")? {
                roots.add(certificate).map_err(|e| format!("cannot use ca_file {}: {e}", path.display()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

/// Any certificate will do: what `insecure_skip_verify` asks for.
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
