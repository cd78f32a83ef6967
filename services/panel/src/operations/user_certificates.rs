//! Certificates that people's browsers sign in with: given, weighed as a second factor, and taken back. The panel keeps what is
//! public of them; who has the key, TLS has asked before anything is weighed here.

use std::{fmt, time::SystemTime};

use serde_json::json;

use super::{Actor, Error, Panel, Work, invalid};
use crate::{
    access::Verb,
    ca::{self, Ca, Certificate, Issued, Kind, PublicKey, Reason, Serial, Subject},
    noun::{Id, Noun, User},
    store::{self, Booked, BookedState, FieldError},
};

/// What somebody may call a browser: with their own name it is the certificate's, which browsers list.
const MOST_LABEL_CHARS: usize = 40;
/// X.520's upper bound of a common name (RFC 5280, A.1: `ub-common-name`), less the word that stands first.
const MOST_NAME_CHARS: usize = 64 - "user ".len();
/// Good certificates of one person.
const MOST: usize = 20;

/// Why a person can't be given a certificate.
#[derive(Debug, thiserror::Error)]
pub enum GiveError {
    /// It can't be signed.
    #[error("the person's certificate can't be made")]
    Ca(#[from] ca::Error),
    /// It may not be, or can't be kept.
    #[error("the person's certificate can't be kept")]
    Operation(#[from] Error),
}

impl From<store::Error> for GiveError {
    fn from(error: store::Error) -> Self {
        Self::Operation(error.into())
    }
}

/// What the certificate that a browser shows is worth as somebody's second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It is theirs, and counts.
    Good(Serial),
    /// None was shown.
    Nothing,
    /// It is none that the panel gave to a person.
    Foreign,
    /// It is somebody else's.
    OfAnother,
    /// It was taken back.
    Revoked,
    /// It has ended.
    Ended,
}

/// A sentence for people, without its full stop.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good(_) => "this browser shows a certificate of yours",
            Self::Nothing => "this browser shows no certificate",
            Self::Foreign => "the certificate that this browser shows is none of this panel's",
            Self::OfAnother => "the certificate that this browser shows is somebody else's",
            Self::Revoked => "the certificate that this browser shows was taken back",
            Self::Ended => "the certificate that this browser shows has ended",
        })
    }
}

impl Panel {
    /// What a person was given, the newest first.
    ///
    /// # Errors
    /// The actor may not change this person.
    pub fn user_certificates(&self, actor: Actor, user: Id<User>) -> Result<Vec<Booked>, Error> {
        self.read(actor, |work| {
            work.may_answer_for(user)?;
            Ok(work.tx.certificates_of_user(user)?)
        })
    }

    /// One of the actor's own.
    ///
    /// # Errors
    /// There is no such one.
    pub fn own_certificate(&self, actor: Actor, serial: Serial) -> Result<Certificate, Error> {
        self.read(actor, |work| {
            let missing = || Error::NotFound { noun: Noun::User };
            let booked = work.tx.booked(serial)?.ok_or_else(missing)?;
            if booked.user.is_none() || booked.user != work.who.user || work.who.limit.is_some() {
                return Err(missing());
            }
            let der = work.tx.certificate_der(serial)?.ok_or_else(missing)?;
            Certificate::parse(der).map_err(|_| missing())
        })
    }

    /// Gives the actor a certificate for a key of theirs. It is made at `now`, and ends by that clock.
    ///
    /// # Errors
    /// The actor is no user, or came with a token; the label is none, or stands for another one that is good; it can't be signed.
    pub fn give_certificate(
        &self,
        ca: &Ca,
        actor: Actor,
        label: &str,
        key: &PublicKey,
        now: SystemTime,
    ) -> Result<Issued, GiveError> {
        let Actor::User(user) = actor else {
            return Err(Error::Forbidden { verb: Verb::Create, noun: Noun::User }.into());
        };
        let now_ms = self.now_ms();
        let done = self.store.write(|tx| {
            let who = self.who(tx, actor)?;
            let work = Work { tx, who: &who, now_ms };
            let good = work.good_certificates(user)?;
            invalid(label_faults(label, &good))?;
            let name: String =
                format!("{}, {label}", who.name).chars().take(MOST_NAME_CHARS).collect();
            let issued = ca.issue(&Subject::User(name), key, now)?;
            tx.keep_user_certificate(user, label, &issued.certificate, now_ms)?;
            work.note_of(
                user,
                json!({ "certificate": issued.certificate.serial().to_string(), "changed": "given",
                    "label": label }),
            )?;
            Ok(issued)
        });
        if done.is_ok() {
            self.announce();
        }
        done
    }

    /// What the certificate that a browser shows, in DER, is worth as this person's second factor. It counts by the books, byte
    /// for byte: what another authority signed, or a stolen key of this one, is not there.
    ///
    /// # Errors
    /// The store failed.
    pub fn weigh_certificate(&self, user: Id<User>, shown: Option<&[u8]>) -> Result<Proof, Error> {
        self.store.read(|tx| weigh(tx, user, shown, self.now_ms()))
    }

    /// Notes that its owner came in with a certificate.
    ///
    /// # Errors
    /// The store failed.
    pub fn note_certificate_use(&self, serial: Serial) -> Result<(), Error> {
        self.store.write(|tx| Ok(tx.note_certificate_use(serial, self.now_ms())?))
    }

    /// Asks this person for a certificate from now on, once they show that their browser has one; their sessions end.
    ///
    /// # Errors
    /// The actor may not change this person; what was shown is none of theirs that counts.
    pub fn ask_for_certificate(
        &self,
        actor: Actor,
        user: Id<User>,
        shown: Option<&[u8]>,
    ) -> Result<(), Error> {
        self.write(actor, |work| {
            work.may_answer_for(user)?;
            match weigh(work.tx, user, shown, work.now_ms)? {
                Proof::Good(_) => {}
                proof => invalid(vec![FieldError::new("ask", proof.to_string())])?,
            }
            if work.tx.require_certificate(user, true)? {
                work.tx.end_sessions(user, None)?;
                work.changed(user, "a certificate is asked for")?;
            }
            Ok(())
        })
    }

    /// Asks this person for a certificate no more; their sessions end.
    ///
    /// # Errors
    /// The actor may not change this person.
    pub fn stop_asking(&self, actor: Actor, user: Id<User>) -> Result<(), Error> {
        self.write(actor, |work| {
            work.may_answer_for(user)?;
            if work.tx.require_certificate(user, false)? {
                work.tx.end_sessions(user, None)?;
                work.changed(user, "no certificate is asked for")?;
            }
            Ok(())
        })
    }

    /// Takes all certificates of a person back and asks for none, for somebody who has lost them; their sessions end. Does nothing
    /// where there is nothing to take.
    ///
    /// # Errors
    /// The actor may not change this person.
    pub fn drop_certificates(&self, actor: Actor, user: Id<User>) -> Result<(), Error> {
        self.write(actor, |work| {
            work.may_answer_for(user)?;
            let asked = work.tx.require_certificate(user, false)?;
            let revoked = work.tx.revoke_user(user, Reason::Unspecified, work.now_ms)?;
            if asked || revoked > 0 {
                work.tx.end_sessions(user, None)?;
                work.changed(user, "certificates taken away")?;
            }
            Ok(())
        })
    }
}

fn label_faults(label: &str, good: &[Booked]) -> Vec<FieldError> {
    let fits = (1..=MOST_LABEL_CHARS).contains(&label.chars().count())
        && !label.trim().is_empty()
        && !label.chars().any(char::is_control);
    let mut faults = Vec::new();
    if !fits {
        let message = format!("say which browser it is, in 1 to {MOST_LABEL_CHARS} characters");
        faults.push(FieldError::new("name", message));
    } else if good.iter().any(|one| one.label.as_deref() == Some(label)) {
        faults.push(FieldError::new("name", "this name is taken"));
    } else if good.len() >= MOST {
        let message = format!("{MOST} are good already: take some back first");
        faults.push(FieldError::new("name", message));
    }
    faults
}

fn weigh(
    tx: store::Tx<'_>,
    user: Id<User>,
    shown: Option<&[u8]>,
    now_ms: u64,
) -> Result<Proof, Error> {
    let Some(der) = shown else { return Ok(Proof::Nothing) };
    let Ok(certificate) = Certificate::parse(der.to_vec()) else { return Ok(Proof::Foreign) };
    let serial = certificate.serial();
    let booked = tx.booked(serial)?.filter(|booked| booked.kind == Kind::User);
    let kept = tx.certificate_der(serial)?;
    let Some(booked) = booked.filter(|_| kept.as_deref() == Some(der)) else {
        return Ok(Proof::Foreign);
    };
    if booked.user != Some(user) {
        return Ok(Proof::OfAnother);
    }
    Ok(match booked.state(now_ms) {
        BookedState::Good => Proof::Good(serial),
        BookedState::Revoked => Proof::Revoked,
        BookedState::Ended => Proof::Ended,
    })
}

impl Work<'_> {
    fn good_certificates(self, user: Id<User>) -> Result<Vec<Booked>, Error> {
        let mut all = self.tx.certificates_of_user(user)?;
        all.retain(|one| one.state(self.now_ms) == BookedState::Good);
        Ok(all)
    }

    /// Lets nobody lock themselves out: whoever is asked for a certificate, and has no one-time passwords, keeps one that is good,
    /// `but` the one that is to go. An admin who takes it away from somebody else knows why.
    pub(super) fn keeps_a_factor(
        self,
        user: Id<User>,
        totp: bool,
        but: Option<Serial>,
    ) -> Result<(), Error> {
        let asked = self.tx.credentials(user)?.is_some_and(|known| known.certificate_required);
        if self.who.user != Some(user) || !asked || totp {
            return Ok(());
        }
        if self.good_certificates(user)?.iter().any(|one| Some(one.serial) != but) {
            return Ok(());
        }
        let message =
            "it is the last that lets you in: make another, or let none be asked for first";
        invalid(vec![FieldError::new("certificate", message)])
    }

    /// Takes a person's certificate back; false when that was done before. When somebody else does it, the person's sessions end.
    pub(super) fn revoke_of(
        self,
        user: Id<User>,
        booked: &Booked,
        reason: Reason,
    ) -> Result<bool, Error> {
        let known = self.tx.credentials(user)?;
        let totp = known.is_some_and(|known| known.totp_secret.is_some());
        if booked.revoked_ms.is_none() {
            self.keeps_a_factor(user, totp, Some(booked.serial))?;
        }
        let revoked = self.tx.revoke(booked.serial, reason, self.now_ms)?;
        if revoked {
            if self.who.user != Some(user) {
                self.tx.end_sessions(user, None)?;
            }
            let what = json!({ "certificate": booked.serial.to_string(), "changed": "revoked",
                "label": booked.label, "reason": reason.word() });
            self.note_of(user, what)?;
        }
        Ok(revoked)
    }
}

#[cfg(test)]
#[path = "user_certificates_tests.rs"]
mod tests;
