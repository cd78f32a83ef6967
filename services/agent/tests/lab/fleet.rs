//! The panel as an agent sees it: a CA, and clients with its certificates.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version::TLS13,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Agent, ask, wait_for, write};

pub(crate) struct Ca {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A chain and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The common name is always the panel's: only the alternative names may count.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        static NEXT: AtomicU64 = AtomicU64::new(1000);
        self.issue_numbered(name, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// What took these numbers back, in PEM.
    pub(crate) fn revoked(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            // Agents go on with a list that is too old.
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// The chain for a certificate request, under the name of an address.
    pub(crate) fn answer(&self, request: &str, serial: u64) -> String {
        let mut asked = CertificateSigningRequestParams::from_pem(request).unwrap();
        asked.params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        asked.params.serial_number = Some(SerialNumber::from(serial));
        asked.signed_by(&self.issuer).unwrap().pem()
    }

    pub(crate) fn issue_numbered(&self, name: &str, serial: u64) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "panel");
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { chain, key: key.serialize_pem() }
    }
}

/// What the agent has, and two CAs: the panel's own and a stranger.
pub(crate) struct Fleet {
    pub(crate) agent: Agent,
    pub(crate) ours: Ca,
    pub(crate) stranger: Ca,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let fleet = Self {
            agent: Agent::start(),
            ours: Ca::new("clusterducks"),
            stranger: Ca::new("somebody"),
        };
        fleet.put("panel-ca.crt", &fleet.ours.pem);
        fleet.install("api");
        fleet.state("api", "in-use").await;
        fleet
    }

    pub(crate) fn put(&self, name: &str, content: &str) {
        write(&self.agent.tls().join(name), content);
    }

    /// Gives a server of the agent a certificate for its address.
    pub(crate) fn install(&self, server: &str) {
        let identity = self.ours.issue("127.0.0.1");
        self.put(&format!("{server}.key"), &identity.key);
        self.put(&format!("{server}.crt"), &identity.chain);
    }

    pub(crate) async fn state(&self, server: &str, state: &str) -> Value {
        wait_for(async || {
            let shown = self.agent.status().await["certificates"][server].take();
            (shown["state"] == state).then_some(shown)
        })
        .await
    }

    pub(crate) fn client(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ours.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    pub(crate) async fn connect(
        &self,
        client: &TlsConnector,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_at(Ipv4Addr::LOCALHOST, client).await
    }

    pub(crate) async fn connect_at(
        &self,
        address: Ipv4Addr,
        client: &TlsConnector,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = wait_for(async || self.reach(address).await).await;
        client.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await
    }

    /// A connection to the port of the API, when it listens there.
    pub(crate) async fn reach(&self, address: Ipv4Addr) -> Option<TcpStream> {
        TcpStream::connect((address, self.agent.ports().api)).await.ok()
    }

    pub(crate) async fn closed(&self, address: Ipv4Addr) {
        wait_for(async || self.reach(address).await.is_none().then_some(())).await;
    }

    /// Asks the API as the panel.
    pub(crate) async fn panel(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> (StatusCode, Value) {
        self.panel_at(Ipv4Addr::LOCALHOST, method, path, body).await
    }

    pub(crate) async fn panel_at(
        &self,
        address: Ipv4Addr,
        method: &str,
        path: &str,
        body: String,
    ) -> (StatusCode, Value) {
        let panel = self.ours.issue("panel");
        let client = self.client(Some(&panel), &[&TLS13]);
        let stream = self.connect_at(address, &client).await.unwrap();
        let (status, body) = ask(stream, method, path, body, None).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// A client that is refused: it never gets an answer, and the agent counts it by this reason.
    pub(crate) async fn refused(&self, client: &TlsConnector, reason: &str) {
        self.refused_at(Ipv4Addr::LOCALHOST, client, reason).await;
    }

    pub(crate) async fn refused_at(&self, address: Ipv4Addr, client: &TlsConnector, reason: &str) {
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        if let Ok(mut stream) = self.connect_at(address, client).await {
            let mut answer = Vec::new();
            let _broken = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: agent\r\n\r\n").await;
            let _broken = stream.read_to_end(&mut answer).await;
            assert_eq!(String::from_utf8_lossy(&answer), "", "{reason}");
        }
        let line = format!("clusterducks_api_tls_refused_total{{reason=\"{reason}\"}} 1");
        let metrics = wait_for(async || {
            let metrics = self.agent.metrics().await;
            metrics.contains("clusterducks_api_tls_refused_total{").then_some(metrics)
        });
        let metrics = metrics.await;
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}
