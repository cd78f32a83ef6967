//! Certificates that were given out: seen, and taken back.

use serde_json::json;

use super::{Actor, Error, Panel};
use crate::{
    access::Verb,
    ca::{Certificate, Kind, Reason, Revoked, Role, Serial},
    noun::{Id, Noun, Server},
    store::Booked,
};

impl Panel {
    /// Puts a certificate of the panel's own on the books, where it may be there already.
    ///
    /// # Errors
    /// The store failed.
    pub fn book(&self, kind: Kind, certificate: &Certificate) -> Result<(), Error> {
        let serial = certificate.serial();
        if self.store.read(|tx| tx.booked(serial))?.is_some() {
            return Ok(());
        }
        self.store.write(|tx| tx.keep_certificate(kind, None, certificate, self.now_ms()))?;
        self.announce();
        Ok(())
    }

    /// Whether a certificate was taken back.
    ///
    /// # Errors
    /// The store failed.
    pub fn is_revoked(&self, serial: Serial) -> Result<bool, Error> {
        let booked = self.store.read(|tx| tx.booked(serial))?;
        Ok(booked.is_some_and(|booked| booked.revoked_ms.is_some()))
    }

    /// What a server was given, the newest first.
    ///
    /// # Errors
    /// There is no such server that the actor may see.
    pub fn certificates(&self, actor: Actor, server: Id<Server>) -> Result<Vec<Booked>, Error> {
        self.read(actor, |work| {
            work.seen(server)?;
            Ok(work.tx.certificates_of(server)?)
        })
    }

    /// Takes a server's certificate back, once and for all: the fleet hangs up on who shows it, connections that stand included.
    /// False when that was done before.
    ///
    /// # Errors
    /// There is none that the actor may see, or they may not change its server.
    pub fn revoke(&self, actor: Actor, serial: Serial, reason: Reason) -> Result<bool, Error> {
        self.write(actor, |work| {
            let missing = || Error::NotFound { noun: Noun::Server };
            let server = work.tx.booked(serial)?.and_then(|booked| booked.server);
            let server = work.fetch(server.ok_or_else(missing)?, Verb::Change)?;
            let revoked = work.tx.revoke(serial, reason, work.now_ms)?;
            if revoked {
                let what = json!({ "certificate": serial.to_string(), "changed": "revoked",
                    "reason": reason.word() });
                work.note_of(server.id, what)?;
            }
            Ok(revoked)
        })
    }

    /// What is on the list of an authority: of what it signed, all that is revoked and would hold still. The root's own list is
    /// made where its key is.
    ///
    /// # Errors
    /// The store failed.
    pub fn revoked(&self, authority: Role) -> Result<Vec<Revoked>, Error> {
        let now_ms = self.now_ms();
        match authority {
            Role::Root => Ok(Vec::new()),
            Role::Issuing => self.store.read(|tx| Ok(tx.revoked(false, now_ms)?)),
            Role::Boot => self.store.read(|tx| Ok(tx.revoked(true, now_ms)?)),
        }
    }
}
