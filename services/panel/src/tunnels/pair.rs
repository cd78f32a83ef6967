//! Making a tunnel the panel's. Neither side knows the other's certificate yet: each proves to have the code's secret, bound to the TLS
//! connection that both stand in, and the panel signs nothing for who did not.

use std::sync::Arc;

use model::{
    code::{PairingCode, PairingSecret},
    join::Problem,
    proof,
    tunnel::{self, Offer, Paired, Side, SshKey},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex, task::JoinError};
use tokio_rustls::TlsConnector;

use super::connection::{self, Api, dial, shake};
use crate::{
    ca::{self, Ca, PublicKey, tunnel_host},
    noun::{HostName, Id, Tunnel},
    operations::{self, Actor, CertifyError, Panel},
};

/// Why a tunnel was not paired.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The actor may not, or the tunnel is paired.
    #[error(transparent)]
    Operation(#[from] operations::Error),
    /// It can't be asked.
    #[error("the tunnel can't be asked")]
    Connection(#[from] connection::Error),
    /// Whoever answers there has another key than the code says.
    #[error(
        "whoever answers at {0} is not the tunnel that shows this code: compare its address with the one on its screen"
    )]
    OtherKey(HostName),
    /// It has no certificate, or one that can't be read.
    #[error("what the tunnel shows of its key can't be read")]
    Key,
    /// TLS gives nothing to bind a proof to.
    #[error("the connection can't be told from others")]
    Binding(#[source] rustls::Error),
    /// It does not speak to who shows no certificate, as one does that is paired.
    #[error(
        "the tunnel hangs up: it may be paired already, with this panel or another; then it is flashed anew first"
    )]
    HungUp(#[source] connection::Error),
    /// The tunnel said no.
    #[error("the tunnel refuses: {}: {}", .0.title, .0.detail)]
    Refused(Box<Problem>),
    /// It did not prove to have the code, so that it may be anybody.
    #[error("the tunnel does not prove that it knows the code")]
    Unproven,
    /// What it offers is not what it should be.
    #[error("what the tunnel offers can't be read")]
    Offer(#[source] serde_json::Error),
    /// Its certificate request is not good.
    #[error("the tunnel's certificate request can't be used")]
    Request(#[source] ca::Error),
    /// It can't be given a certificate.
    #[error(transparent)]
    Certify(CertifyError),
    /// It was told, and its answer got lost.
    #[error(
        "the tunnel's last answer was lost: if it took it, it is connected in a moment; if not, pair it again"
    )]
    Lost(#[source] connection::Error),
    /// A call of the store panicked.
    #[error("the store's work died")]
    Died(#[from] JoinError),
}

impl From<CertifyError> for PairError {
    fn from(error: CertifyError) -> Self {
        match error {
            CertifyError::Operation(error) => Self::Operation(error),
            other @ CertifyError::Ca(_) => Self::Certify(other),
        }
    }
}

impl PairError {
    /// Whether the same code may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Connection(_)
            | Self::HungUp(_)
            | Self::Lost(_)
            | Self::Died(_)
            | Self::Binding(_) => true,
            Self::Operation(_)
            | Self::OtherKey(_)
            | Self::Key
            | Self::Refused(_)
            | Self::Unproven
            | Self::Offer(_)
            | Self::Request(_)
            | Self::Certify(_) => false,
        }
    }
}

/// Lets every certificate pass; that its bearer has the key is verified all the same. Who it is, the proof tells.
#[derive(Debug)]
struct Unknown(Arc<CryptoProvider>);

impl ServerCertVerifier for Unknown {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unknown(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A connection to a tunnel that has the key of the code, if that says one, and has seen nothing of ours yet.
struct Unproven {
    api: Api,
    exported: [u8; 32],
}

async fn meet(tunnel: &Tunnel, code: &PairingCode, port: u16) -> Result<Unproven, PairError> {
    let host = tunnel_host(&tunnel.name.server_name());
    let stream = dial(&tunnel.host, port).await?;
    let connector = TlsConnector::from(Arc::new(config().map_err(PairError::Binding)?));
    let stream = shake(connector, host.clone(), stream).await?;
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(<[_]>::first).ok_or(PairError::Key)?;
    let (_, read) = x509_parser::parse_x509_certificate(leaf).map_err(|_| PairError::Key)?;
    let key: [u8; 32] = Sha256::digest(read.public_key().raw).into();
    if code.key.is_some_and(|pin| !pin.matches(&key)) {
        return Err(PairError::OtherKey(tunnel.host.clone()));
    }
    let exported = session.export_keying_material([0; 32], tunnel::EXPORTER, None);
    let exported = exported.map_err(PairError::Binding)?;
    Ok(Unproven { api: Api::over(stream, host).await?, exported })
}

impl Unproven {
    /// Proves ourselves, and lets the tunnel prove itself.
    async fn prove(mut self, secret: &PairingSecret) -> Result<(Api, String, Offer), PairError> {
        let proof = proof::make(secret, Side::Panel, &self.exported);
        let offer = self.api.prove(tunnel::PAIR, &proof).await.map_err(|error| match error {
            connection::Error::Refused(problem) => PairError::Refused(problem),
            broken @ connection::Error::Http(_) => PairError::HungUp(broken),
            other => PairError::Connection(other),
        })?;
        let offer: Offer = serde_json::from_slice(&offer).map_err(PairError::Offer)?;
        if !proof::is_good(offer.proof.as_bytes(), secret, Side::Tunnel, &self.exported) {
            return Err(PairError::Unproven);
        }
        Ok((self.api, proof, offer))
    }
}

/// From the certificate to the tunnel's answer there is one pairing at a time: a second one would take the certificate back that the
/// tunnel is being given.
static GIVING: Mutex<()> = Mutex::const_new(());

/// Makes a tunnel whose API answers at this port the panel's, by the code that it shows or that its seed file had.
///
/// # Errors
/// The actor may not; it is paired; it can't be reached; it does not have the code. What it said no to is forgotten.
pub async fn pair(
    panel: &Arc<Panel>,
    actor: Actor,
    ca: Arc<Ca>,
    (tunnel, port): (Id<Tunnel>, u16),
    code: &PairingCode,
) -> Result<(), PairError> {
    let of = Arc::clone(panel);
    let stored = tokio::task::spawn_blocking(move || of.pairable(actor, tunnel)).await??;
    let met = meet(&stored.value, code, port).await?;
    let (mut api, proof, offer) = met.prove(&code.secret).await?;
    let key =
        PublicKey::from_request(&offer.certificate_request_pem).map_err(PairError::Request)?;
    let _giving = GIVING.lock().await;
    let paired = begin(panel, (actor, tunnel), ca, (key, offer.host_key)).await?;
    let told = serde_json::to_vec(&paired).map_err(PairError::Offer)?;
    let answer = api.put(tunnel::PAIR, Some(&proof), told).await;
    let of = Arc::clone(panel);
    match answer {
        Ok(()) => {
            tokio::task::spawn_blocking(move || of.confirm_pairing(tunnel)).await??;
            tracing::info!(%tunnel, name = %stored.value.name, "the tunnel is paired");
            Ok(())
        }
        Err(connection::Error::Refused(problem)) => {
            tokio::task::spawn_blocking(move || of.give_up_pairing(tunnel)).await??;
            Err(PairError::Refused(problem))
        }
        Err(lost) => Err(PairError::Lost(lost)),
    }
}

async fn begin(
    panel: &Arc<Panel>,
    (actor, tunnel): (Actor, Id<Tunnel>),
    ca: Arc<Ca>,
    (key, host_key): (PublicKey, SshKey),
) -> Result<Paired, PairError> {
    let of = Arc::clone(panel);
    let begun = move || of.begin_pairing(actor, &ca, tunnel, (&key, &host_key));
    Ok(tokio::task::spawn_blocking(begun).await??)
}
