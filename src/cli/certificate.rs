//! The server's certificate: read at the start, read again when its files change.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::config::TlsFiles;

/// How often the files of a server are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The certificate that new connections get. Clones share it.
#[derive(Clone, Debug)]
pub struct Certificate {
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// When and how large the two files are; another value means that they have changed.
type Seen = [Option<(SystemTime, u64)>; 2];

impl Certificate {
    /// Reads the files. The error says which is wrong, and how.
    pub fn read(files: &TlsFiles) -> Result<Certificate, String> {
        Ok(Certificate { current: Arc::new(Current(RwLock::new(Arc::new(read(files)?)))) })
    }

    /// The server's side of TLS with this certificate, and these protocols in the order of
    /// preference (RFC 7301), if any.
    pub fn server_config(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(self.current.clone());
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Takes over new files as they come, until it is told to stop. Files that cannot be used are
    /// logged, and the certificate before them stays.
    pub async fn follow(self, files: TlsFiles, look_every: Duration, stop: CancellationToken) {
        let mut seen = look(&files);
        while stop.run_until_cancelled(tokio::time::sleep(look_every)).await.is_some() {
            let now = look(&files);
            if now == seen {
                continue;
            }
            // The two are not replaced at the same moment: one without the other is tried again.
            match read(&files) {
                Ok(key) => {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                    seen = now;
                    tracing::info!(file = %files.cert.display(), "the certificate has been read again");
                }
                Err(error) => tracing::warn!(%error, "the new certificate cannot be used; the old one stays"),
            }
        }
    }
}

fn look(files: &TlsFiles) -> Seen {
    [&files.cert, &files.key].map(|file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, String> {
    let wrong =
        |file: &Path, error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", file.display());
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&files.cert, &error))?;
    if chain.is_empty() {
        return Err(wrong(&files.cert, &"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, &error))?;
    let key =
        rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| wrong(&files.key, &error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A key whose public half cannot be told is used as it is.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(wrong(&files.key, &"it is not the key of the certificate")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    fn write_new(files: &TlsFiles) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(["mail.example.test".to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    fn files(folder: &tempfile::TempDir) -> TlsFiles {
        TlsFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") }
    }

    #[tokio::test]
    async fn new_files_are_taken_over_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        let first = write_new(&files);
        let certificate = Certificate::read(&files).unwrap();
        let served = || certificate.current.0.read().unwrap().cert.first().unwrap().to_vec();
        assert_eq!(served(), first);
        let stop = CancellationToken::new();
        let follower = tokio::spawn(certificate.clone().follow(files.clone(), STEP, stop.clone()));
        tokio::time::sleep(STEP * 3).await;
        std::fs::write(&files.key, "rubbish").unwrap();
        tokio::time::sleep(STEP * 20).await;
        assert_eq!(served(), first);
        let second = write_new(&files);
        tokio::time::sleep(STEP * 20).await;
        assert_eq!(served(), second);
        stop.cancel();
        follower.await.unwrap();
    }

    #[test]
    fn wrong_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&folder);
        assert!(Certificate::read(&files).unwrap_err().contains("cert.pem"));
        write_new(&files);
        let key = std::fs::read(&files.key).unwrap();
        write_new(&files);
        std::fs::write(&files.key, key).unwrap();
        assert!(Certificate::read(&files).unwrap_err().contains("not the key"));
        std::fs::write(&files.cert, "").unwrap();
        assert!(Certificate::read(&files).unwrap_err().contains("no certificate"));
    }
}
