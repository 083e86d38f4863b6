//! TLS, where no proxy stands in front: a certificate and its key from files.
//!
//! They are read again when somebody asks for it, as certificates end: connections made from then
//! on get the new one. What cannot be read, or does not fit together, leaves the old one in place.
//! Clients are not asked for certificates, and names are not told apart here: that is a proxy's.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The only protocol that is spoken here.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate {file} cannot be read: {why}")]
    Certificate { file: PathBuf, why: String },
    #[error("the key {file} cannot be read: {why}")]
    Key { file: PathBuf, why: String },
    #[error("the certificate {certificate} and the key {key} do not go together: {why}")]
    Together {
        certificate: PathBuf,
        key: PathBuf,
        why: String,
    },
}

/// A certificate and its key, as they were last read.
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Identity {
    /// Reads both from PEM files: the certificate with those that it stands on, its own first.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, or the key is not the certificate's.
    pub fn read(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let current = RwLock::new(configuration(&certificate, &key)?);
        Ok(Self {
            certificate,
            key,
            current,
        })
    }

    /// Reads both again, for the connections to come.
    ///
    /// # Errors
    /// As [`Identity::read`]; what was read before stays in use.
    pub fn read_again(&self) -> Result<(), TlsError> {
        let read = configuration(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// Agrees with a client on how to speak.
    ///
    /// # Errors
    /// When the client is gone, or speaks something else.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

fn configuration(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let of_certificate = |why: String| TlsError::Certificate {
        file: certificate.to_owned(),
        why,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| of_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(of_certificate("it holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::Key {
        file: key.to_owned(),
        why: error.to_string(),
    })?;
    let together = |error: rustls::Error| TlsError::Together {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        why: error.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(together)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(together)?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn write(folder: &Path, certificate: &str, key: &str) -> (PathBuf, PathBuf) {
        let files = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&files.0, certificate).expect("it is written");
        fs::write(&files.1, key).expect("it is written");
        files
    }

    fn made() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("one is made");
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn what_does_not_go_together_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let ((certificate, key), (_, other)) = (made(), made());
        let files = write(folder.path(), &certificate, &key);
        let identity = Identity::read(files.0, files.1).expect("they go together");
        let before = identity.current();
        for (certificate, key) in [
            (certificate.as_str(), other.as_str()),
            (certificate.as_str(), "nothing"),
            ("", key.as_str()),
            (key.as_str(), key.as_str()),
        ] {
            write(folder.path(), certificate, key);
            let refused = identity.read_again().expect_err("it is not taken");
            assert!(!refused.to_string().contains(key.trim()) || key == "nothing");
            assert!(Arc::ptr_eq(&before, &identity.current()));
        }
        write(folder.path(), &certificate, &key);
        identity.read_again().expect("they go together");
        assert!(!Arc::ptr_eq(&before, &identity.current()));
    }
}
