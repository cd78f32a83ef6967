//! Codes by which servers join, and jobs.

use serde_json::json;

use super::{Actor, Error, Panel, Work, invalid};
use crate::{
    access::Verb,
    noun::{Id, Network, Noun, Place, Server},
    store::{Digest, FieldError, Job, JobState, JoinCode},
};

/// The longest that a join code is good: a week, for a box that is sent to a site by post.
const LONGEST_MS: u64 = 7 * 24 * 3600 * 1000;

impl Panel {
    /// Makes a code by which one server may join a network, or take the place of one of its servers.
    ///
    /// # Errors
    /// The actor may not make servers there; it would be good for longer than a week.
    pub fn make_join_code(
        &self,
        actor: Actor,
        network: Id<Network>,
        server: Option<Id<Server>>,
        digest: Digest,
        lasts_ms: u64,
        confirm: bool,
    ) -> Result<JoinCode, Error> {
        self.write(actor, |work| {
            work.allow(Verb::Create, Noun::Server, network.place())?;
            work.stands_at(server, network.place())?;
            let mut faults = Vec::new();
            if lasts_ms == 0 || lasts_ms > LONGEST_MS {
                faults.push(FieldError::new("lasts_ms", "a code is good for a week at the most"));
            }
            invalid(faults)?;
            let mut code = JoinCode {
                id: 0,
                network,
                server,
                created_ms: work.now_ms,
                expires_ms: work.now_ms.saturating_add(lasts_ms),
                used_ms: None,
                confirm,
            };
            code.id = work.tx.insert_join_code(&code, digest)?;
            let what = json!({ "join_code": code.id, "changed": "made" });
            work.note_errand(Some(network), server, what)?;
            Ok(code)
        })
    }

    /// The join codes of a network, the newest first.
    ///
    /// # Errors
    /// The actor may not make servers there.
    pub fn join_codes(&self, actor: Actor, network: Id<Network>) -> Result<Vec<JoinCode>, Error> {
        self.read(actor, |work| {
            work.allow(Verb::Create, Noun::Server, network.place())?;
            Ok(work.tx.join_codes(network)?)
        })
    }

    /// Takes a join code back; false when there is none.
    ///
    /// # Errors
    /// The actor may not make servers there.
    pub fn delete_join_code(
        &self,
        actor: Actor,
        network: Id<Network>,
        id: i64,
    ) -> Result<bool, Error> {
        self.write(actor, |work| {
            work.allow(Verb::Create, Noun::Server, network.place())?;
            let deleted = work.tx.delete_join_code(network, id)?;
            if deleted {
                let what = json!({ "join_code": id, "changed": "deleted" });
                work.note_errand(Some(network), None, what)?;
            }
            Ok(deleted)
        })
    }

    /// Begins a job of an operation that the actor may do.
    ///
    /// # Errors
    /// The actor may not change servers there; the server stands elsewhere.
    pub fn begin_job(
        &self,
        actor: Actor,
        network: Option<Id<Network>>,
        server: Option<Id<Server>>,
        kind: &str,
    ) -> Result<Job, Error> {
        self.write(actor, |work| {
            let place = network.map_or(Place::Panel, Id::place);
            work.allow(Verb::Change, Noun::Server, place)?;
            work.stands_at(server, place)?;
            let mut job = Job {
                id: 0,
                network,
                server,
                asked_by: work.who.name.clone(),
                kind: kind.to_owned(),
                state: JobState::Running,
                detail: String::new(),
                done: 0,
                total: None,
                created_ms: work.now_ms,
                ended_ms: None,
            };
            job.id = work.tx.insert_job(&job)?;
            let what = json!({ "job": job.id, "kind": kind, "changed": "begun" });
            work.note_errand(network, server, what)?;
            Ok(job)
        })
    }

    /// Notes how far a job is; false when it has ended meanwhile, so that its worker stops.
    ///
    /// # Errors
    /// The store failed.
    pub fn advance_job(&self, job: &Job) -> Result<bool, Error> {
        self.store.write(|tx| Ok(tx.update_job(&Job { ended_ms: None, ..job.clone() })?))
    }

    /// Ends a job; false when it has ended before.
    ///
    /// # Errors
    /// The store failed.
    pub fn end_job(&self, job: &Job, state: JobState, detail: &str) -> Result<bool, Error> {
        let ended_ms = Some((self.clock)());
        let job = Job { state, detail: detail.to_owned(), ended_ms, ..job.clone() };
        self.store.write(|tx| Ok(tx.update_job(&job)?))
    }

    /// Stops a job; false when it has ended before.
    ///
    /// # Errors
    /// There is none, or the actor may not change servers there.
    pub fn cancel_job(&self, actor: Actor, id: i64) -> Result<bool, Error> {
        self.write(actor, |work| {
            let job = work.tx.job(id)?.ok_or(Error::NotFound { noun: Noun::Server })?;
            let place = job.network.map_or(Place::Panel, Id::place);
            work.allow(Verb::Change, Noun::Server, place)?;
            let ended_ms = Some(work.now_ms);
            let job = Job { state: JobState::Cancelled, ended_ms, ..job };
            let cancelled = work.tx.update_job(&job)?;
            if cancelled {
                let what = json!({ "job": id, "kind": job.kind, "changed": "cancelled" });
                work.note_errand(job.network, job.server, what)?;
            }
            Ok(cancelled)
        })
    }

    /// The newest jobs of a network, or of the whole panel; those that run first.
    ///
    /// # Errors
    /// The actor may not see the network, or is no superadmin.
    pub fn jobs(&self, actor: Actor, network: Option<Id<Network>>) -> Result<Vec<Job>, Error> {
        self.read(actor, |work| {
            work.allow(Verb::Read, Noun::Server, network.map_or(Place::Panel, Id::place))?;
            Ok(work.tx.jobs(network, 200)?)
        })
    }
}

impl Work<'_> {
    /// Refuses a server of another place: what is allowed here is not allowed there.
    fn stands_at(self, server: Option<Id<Server>>, place: Place) -> Result<(), Error> {
        match server {
            Some(server) if self.seen(server)?.place != place => {
                Err(Error::NotFound { noun: Noun::Server })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ROOT, fields, rig, value};

    #[test]
    fn an_errand_is_about_a_server_of_its_own_network() {
        let rig = rig();
        let south: Network = value(json!({ "name": "south" }));
        let south = rig.panel.create(ROOT, rig.home(), south).unwrap().id;
        let elsewhere: Server = value(json!({ "name": "agent-2", "role": "storage" }));
        let elsewhere = rig.panel.create(ROOT, south.place(), elsewhere).unwrap().id;
        let admin = rig.user("anna", "member", Some("admin"));
        for actor in [admin, ROOT] {
            let job = rig.panel.begin_job(actor, Some(rig.network), Some(elsewhere), "import");
            assert!(matches!(job, Err(Error::NotFound { noun: Noun::Server })), "{job:?}");
            let (server, digest) = (Some(elsewhere), Digest([1; 32]));
            let code = rig.panel.make_join_code(actor, rig.network, server, digest, 1000, true);
            assert!(matches!(code, Err(Error::NotFound { noun: Noun::Server })), "{code:?}");
        }
        let job = rig.panel.begin_job(ROOT, None, Some(elsewhere), "import");
        assert!(matches!(job, Err(Error::NotFound { noun: Noun::Server })), "{job:?}");
        rig.panel.begin_job(admin, Some(rig.network), Some(rig.server.id), "import").unwrap();
        assert_eq!(rig.panel.jobs(ROOT, None).unwrap().len(), 1);
    }

    #[test]
    fn a_join_code_is_made_listed_and_taken_back_by_who_may_make_servers() {
        let rig = rig();
        let make = |byte, lasts| {
            rig.panel.make_join_code(ROOT, rig.network, None, Digest([byte; 32]), lasts, true)
        };
        let code = make(1, 60_000).unwrap();
        assert_eq!(fields(make(3, LONGEST_MS + 1)), ["lasts_ms"]);
        let listed = rig.panel.join_codes(ROOT, rig.network).unwrap();
        assert_eq!(listed, std::slice::from_ref(&code));
        assert!(rig.panel.delete_join_code(ROOT, rig.network, code.id).unwrap());
        let technician = rig.user("tina", "member", Some("technician"));
        let refused = rig.panel.join_codes(technician, rig.network);
        assert!(matches!(refused, Err(Error::Forbidden { .. })));
    }

    #[test]
    fn a_job_ends_once_and_runs_until_then() {
        let rig = rig();
        let admin = rig.user("anna", "member", Some("admin"));
        let mut job = rig.panel.begin_job(admin, Some(rig.network), None, "import").unwrap();
        (job.done, job.total) = (5, Some(10));
        assert!(rig.panel.advance_job(&job).unwrap());
        assert_eq!(rig.panel.jobs(admin, Some(rig.network)).unwrap(), [job.clone()]);
        assert!(rig.panel.cancel_job(admin, job.id).unwrap());
        assert!(!rig.panel.advance_job(&job).unwrap(), "its worker stops");
        assert!(!rig.panel.end_job(&job, JobState::Done, "").unwrap());
        let kept = rig.panel.jobs(ROOT, None).unwrap();
        assert_eq!((kept[0].state, kept[0].asked_by.as_str()), (JobState::Cancelled, "anna"));
        let refused = rig.panel.jobs(admin, None);
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
}
