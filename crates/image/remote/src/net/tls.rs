//! Whom to believe: the machine's authorities, those of the registry's directory, or nobody.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use crate::{Error, Result, config::hosts::Certificates};

/// How TLS is spoken with these certificates.
pub(super) fn config(certificates: &Certificates) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Start(std::io::Error::other(e)))?;
    let mut pinned = Vec::new();
    for path in &certificates.authorities {
        pinned.extend(read_certificates(path)?);
    }
    let verifier: Arc<dyn ServerCertVerifier> = match certificates.skip_verify {
        true => Arc::new(Trust { whom: Whom::Everybody, provider }),
        false => {
            let mut roots = RootCertStore::empty();
            // Those that cannot be read are the machine's trouble: what they vouch for is refused.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            for certificate in &pinned {
                // What is no authority by its own words may still be the very certificate.
                roots.add(certificate.clone()).ok();
            }
            match roots.is_empty() {
                // Then every certificate is of an unknown authority, unless it is pinned.
                true => {
                    Arc::new(Trust { whom: Whom::Known { authorities: None, pinned }, provider })
                }
                false => {
                    let roots = Arc::new(roots);
                    let inner =
                        WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                            .build()
                            .map_err(|e| Error::Start(std::io::Error::other(e)))?;
                    Arc::new(Trust {
                        whom: Whom::Known { authorities: Some(inner), pinned },
                        provider,
                    })
                }
            }
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match certificates.clients.first() {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let wrong = |why: String| Error::Config { path: key.clone(), why };
            let chain = read_certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(format!("{e:?}")))?;
            builder.with_client_auth_cert(chain, secret).map_err(|e| wrong(e.to_string()))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |why: String| Error::Config { path: path.into(), why };
    let found: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?.collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("there is no certificate in it".into())),
        Ok(found) => Ok(found),
        Err(e) => Err(wrong(e.to_string())),
    }
}

/// What is wrong with a certificate, in Go's words, which people look for.
pub(super) fn explain(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".into(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate is not yet valid".into()
        }
        // It signed itself as an authority would, and is none that we know.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "certificate signed by unknown authority".into()
        }
        other => other.to_string(),
    }
}

/// Which servers are believed.
#[derive(Debug)]
enum Whom {
    /// All: for registries that the user calls insecure.
    Everybody,
    /// Those of the usual authorities, and those whose certificates lie in the registry's directory.
    /// These are often signed by themselves, which makes no authority of them by the rules of
    /// RFC 5280.
    Known { authorities: Option<Arc<WebPkiServerVerifier>>, pinned: Vec<CertificateDer<'static>> },
}

#[derive(Debug)]
struct Trust {
    whom: Whom,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (authorities, pinned) = match &self.whom {
            Whom::Everybody => return Ok(ServerCertVerified::assertion()),
            Whom::Known { authorities, pinned } => (authorities, pinned),
        };
        let usual = match authorities {
            None => Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        };
        let expired = matches!(
            usual,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            ))
        );
        if usual.is_err() && !expired && pinned.iter().any(|known| known == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        usual
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
