use std::{io, time::SystemTime};

use tokio::io::DuplexStream;

use super::*;
use crate::{
    ca::{Algorithm, Authority, Ca, Key, Subject},
    testing::rig,
};

/// Leads nowhere, and does not even say so.
struct Nowhere;

impl Link for Nowhere {
    type Stream = DuplexStream;

    async fn open(&self, _: &Peer) -> io::Result<Opened<DuplexStream>> {
        std::future::pending().await
    }
}

fn authorities() -> Ca {
    let now = SystemTime::now();
    let root = Authority::root(now).unwrap();
    let issuing = root.issuing(&[], now).unwrap();
    let boot = Authority::boot(now).unwrap();
    Ca::new(root.certificate().clone(), issuing, boot).unwrap()
}

fn identity(ca: &Ca) -> Identity {
    let key = Key::generate(Algorithm::EcdsaP256).unwrap();
    let issued = ca.issue(&Subject::Fleet, &key.public(), SystemTime::now()).unwrap();
    Identity::new(ca.root(), &issued, &key).unwrap()
}

#[tokio::test]
async fn a_server_is_told_what_the_store_has_whoever_put_it_there() {
    let rig = rig();
    let server = rig.server.id;
    let ca = Arc::new(authorities());
    let shared = Arc::new(Shared {
        panel: Arc::new(rig.panel),
        link: Nowhere,
        identity: watch::Sender::new(identity(&ca)).subscribe(),
        authorities: Arc::new(move || Arc::clone(&ca)),
        board: Arc::default(),
        store: Arc::new(Semaphore::new(AT_THE_STORE)),
    });
    let (mut kept, mut tasks) = (BTreeMap::new(), JoinSet::new());
    for generation in [0, 1, 1, 7] {
        let peer = Peer {
            server,
            name: "agent-1".parse().unwrap(),
            addresses: Vec::new(),
            serials: Vec::new(),
            ways: Vec::new(),
            direct: true,
            generation,
        };
        follow(&shared, vec![peer], &mut kept, &mut tasks);
        assert_eq!(*kept[&server].wanted.borrow(), generation);
    }
    tasks.shutdown().await;
}
