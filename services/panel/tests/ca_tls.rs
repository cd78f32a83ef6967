//! The authority's certificates at work: TLS on loopback, both sides verified, and what iPXE would offer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod authorities;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use authorities::{DAY, Fleet, Identity, NOW, host, now, openssl_command};
use panel::{
    ca::{
        Algorithm::{EcdsaP256, Rsa2048},
        Fingerprint, Reason, Revoked, Subject, agent_host,
    },
    noun::Id,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime},
    server::{ParsedCertificate, WebPkiClientVerifier},
    time_provider::TimeProvider,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A clock that stands still, so many days from the time at which the certificates were made.
#[derive(Debug)]
struct Day(u64);

impl TimeProvider for Day {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(
            Duration::from_secs(NOW) + DAY * u32::try_from(self.0).ok()?,
        ))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(certificate: &CertificateDer<'static>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    Arc::new(roots)
}

/// An agent's API as it is to be served: only clients of this CA that are not on the issuing authority's list. The root signs
/// no list that is always at hand: its key may lie in a safe.
fn agent(
    fleet: &Fleet,
    server: &Identity,
    lists: Vec<CertificateRevocationListDer<'static>>,
    day: u64,
) -> Arc<ServerConfig> {
    let clients =
        WebPkiClientVerifier::builder_with_provider(roots(fleet.ca.root().der()), provider())
            .with_crls(lists)
            .only_check_end_entity_revocation()
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_details(provider(), Arc::new(Day(day)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(server.issued.chain(), server.key.rustls());
    Arc::new(config.unwrap())
}

fn open(server: &Identity) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(server.issued.chain(), server.key.rustls());
    Arc::new(config.unwrap())
}

fn client(root: &CertificateDer<'static>, identity: &Identity, day: u64) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_details(provider(), Arc::new(Day(day)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(root))
        .with_client_auth_cert(identity.issued.chain(), identity.key.rustls());
    Arc::new(config.unwrap())
}

/// What each side came to: a byte of the other's, or an error.
struct Met {
    server: Result<u8, Error>,
    client: Result<u8, Error>,
}

async fn meet(server: Arc<ServerConfig>, client: Arc<ClientConfig>, name: &str) -> Met {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let stream = TlsAcceptor::from(server).accept(listener.accept().await?.0).await;
        exchange(stream?).await
    };
    let ask = async {
        let stream = TcpStream::connect(address).await?;
        exchange(TlsConnector::from(client).connect(host(name), stream).await?).await
    };
    let (server, client) = tokio::join!(serve, ask);
    Met { server: server.map_err(told), client: client.map_err(told) }
}

async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
) -> std::io::Result<u8> {
    stream.write_u8(42).await?;
    stream.flush().await?;
    stream.read_u8().await
}

fn told(error: std::io::Error) -> Error {
    let known = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
    known.unwrap_or_else(|| Error::General(error.to_string()))
}

/// A fleet, the server `srv-1`, and the panel as its client.
fn cast() -> (Fleet, Identity, Identity) {
    let fleet = Fleet::found();
    let server = fleet.issue(&Subject::Agent(Id::new(7), "srv-1".parse().unwrap()), EcdsaP256);
    let panel = fleet.issue(&Subject::Fleet, EcdsaP256);
    (fleet, server, panel)
}

fn lists(fleet: &Fleet, revoked: &[Revoked]) -> Vec<CertificateRevocationListDer<'static>> {
    let of_issuing = fleet.ca.issuing().revocation_list(revoked, 1, now()).unwrap();
    vec![of_issuing.der().clone()]
}

fn srv_1() -> String {
    agent_host(Id::new(7))
}

#[tokio::test]
async fn panel_and_agent_know_each_other() {
    let (fleet, server, panel) = cast();
    let met = meet(
        agent(&fleet, &server, lists(&fleet, &[]), 0),
        client(fleet.ca.root().der(), &panel, 0),
        &srv_1(),
    )
    .await;
    assert_eq!((met.server, met.client), (Ok(42), Ok(42)));
}

#[tokio::test]
async fn another_cas_client_and_another_cas_server_are_refused() {
    let (fleet, server, panel) = cast();
    let (other, stranger, posing) = cast();
    let serving = agent(&fleet, &server, lists(&fleet, &[]), 0);
    let met = meet(serving.clone(), client(fleet.ca.root().der(), &posing, 0), &srv_1()).await;
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(met.server, Err(unknown.clone()));

    let serving = agent(&other, &stranger, lists(&other, &[]), 0);
    let met = meet(serving, client(fleet.ca.root().der(), &panel, 0), &srv_1()).await;
    assert_eq!(met.client, Err(unknown));
}

#[tokio::test]
async fn a_revoked_client_is_refused() {
    let (fleet, server, panel) = cast();
    let serial = panel.issued.certificate.serial();
    let revoked = Revoked { serial, at: now(), reason: Reason::Superseded };
    let serving = agent(&fleet, &server, lists(&fleet, &[revoked]), 0);
    let met = meet(serving.clone(), client(fleet.ca.root().der(), &panel, 0), &srv_1()).await;
    assert_eq!(met.server, Err(Error::InvalidCertificate(CertificateError::Revoked)));

    let renewed = fleet.issue(&Subject::Fleet, EcdsaP256);
    let met = meet(serving, client(fleet.ca.root().der(), &renewed, 0), &srv_1()).await;
    assert_eq!(met.server, Ok(42));
}

#[tokio::test]
async fn an_expired_client_and_an_expired_server_are_refused() {
    let (fleet, server, panel) = cast();
    let expired = |met: Result<u8, Error>| {
        matches!(met, Err(Error::InvalidCertificate(CertificateError::ExpiredContext { .. })))
    };
    let root = fleet.ca.root().der();
    let met = meet(agent(&fleet, &server, vec![], 399), client(root, &panel, 0), &srv_1()).await;
    assert!(expired(met.server));
    let met = meet(agent(&fleet, &server, vec![], 0), client(root, &panel, 399), &srv_1()).await;
    assert!(expired(met.client));
}

#[tokio::test]
async fn one_server_can_not_pose_as_another() {
    let (fleet, server, panel) = cast();
    let other = agent_host(Id::new(8));
    let serving = agent(&fleet, &server, lists(&fleet, &[]), 0);
    let met = meet(serving, client(fleet.ca.root().der(), &panel, 0), &other).await;
    let refused = matches!(
        met.client,
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
    );
    assert!(refused, "{:?}", met.client);
}

#[test]
fn only_the_panels_own_certificate_has_the_name_that_agents_let_in() {
    let (fleet, server, panel) = cast();
    let user = fleet.issue(&Subject::User("panel".to_owned()), EcdsaP256);
    let named = |identity: &Identity| {
        let parsed = ParsedCertificate::try_from(identity.issued.certificate.der()).unwrap();
        verify_server_name(&parsed, &host("panel")).is_ok()
    };
    assert!(named(&panel) && !named(&server) && !named(&user));
}

/// What a box knows that was given a join code: one fingerprint.
#[derive(Debug)]
struct Pinned(Fingerprint);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        at: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = above.iter().find(|certificate| Fingerprint::of(certificate) == self.0);
        let root = root.ok_or(CertificateError::UnknownIssuer)?;
        let leaf = ParsedCertificate::try_from(leaf)?;
        let roots = roots(&root.clone().into_owned());
        let schemes = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, above, at, schemes)?;
        verify_server_name(&leaf, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is tried".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn pinning(fingerprint: Fingerprint) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_details(provider(), Arc::new(Day(0)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(fingerprint)));
    Arc::new(config.with_no_client_auth())
}

#[tokio::test]
async fn a_box_that_knows_one_fingerprint_finds_its_panel_and_no_other() {
    let subject = Subject::Panel(vec![host("panel.school.example")]);
    let [ours, theirs] = [(); 2].map(|()| Fleet::found());
    let [right, wrong] = [&ours, &theirs].map(|fleet| open(&fleet.issue(&subject, EcdsaP256)));
    let pin = ours.ca.root().fingerprint();
    let met = meet(right.clone(), pinning(pin), "panel.school.example").await;
    assert_eq!(met.client, Ok(42));
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let met = meet(wrong, pinning(pin), "panel.school.example").await;
    assert_eq!(met.client, Err(unknown));
    let met = meet(right, pinning(pin), "panel.local").await;
    let refused = matches!(
        met.client,
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
    );
    assert!(refused, "{:?}", met.client);
}

/// Serves what asks until the runtime ends.
async fn serve(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    stream.write_all(b"hello").await?;
                    stream.shutdown().await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

/// openssl(1) as a client of TLS 1.2 that trusts the boot root alone.
async fn s_client(fleet: &Fleet, to: SocketAddr, ciphers: &str) -> (bool, String) {
    let arguments = format!(
        "s_client -connect {to} -tls1_2 -cipher {ciphers} -CAfile boot.pem -verify_ip 127.0.0.1 -verify_return_error -ign_eof"
    );
    let mut command = openssl_command(&arguments);
    command.current_dir(fleet.folder.path()).stdin(std::process::Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_endpoint_takes_what_ipxe_2_offers_and_not_what_1_21_does() {
    let fleet = Fleet::found();
    let subject = Subject::Boot("srv-1".parse().unwrap(), vec![host("127.0.0.1")]);
    for (algorithm, suites) in [
        (Rsa2048, ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]),
        (EcdsaP256, ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]),
    ] {
        let address = serve(open(&fleet.issue(&subject, algorithm))).await;
        for suite in suites {
            let (well, text) = s_client(&fleet, address, suite).await;
            assert!(well && text.contains("Verify return code: 0 (ok)"), "{suite} {text}");
            assert!(text.contains(&format!("Cipher is {suite}")), "{text}");
        }
        let (well, text) =
            s_client(&fleet, address, "AES128-SHA256:AES256-SHA256:AES128-SHA").await;
        assert!(!well && text.contains("handshake failure"), "{text}");
    }
}
