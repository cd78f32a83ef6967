//! Organizations, users, networks and tunnels.

use super::{
    super::{Error, Work, organization_of},
    Kind,
};
use crate::{
    access::Standing,
    noun::{Network, Noun, Organization, Place, Stored, Tunnel, User},
    store::FieldError,
};

/// A fault when an organization is at its limit for another one of this noun.
pub(super) fn limit(work: Work<'_>, place: Place, noun: Noun) -> Result<Vec<FieldError>, Error> {
    let Some(id) = organization_of(work.tx, place)? else { return Ok(Vec::new()) };
    let Some(organization) = work.tx.get::<Organization>(id)? else { return Ok(Vec::new()) };
    let (networks, users, devices) = work.tx.possessions(id)?;
    let value = &organization.value;
    let (most, has, what) = match noun {
        Noun::Network => (value.most_networks, networks, "networks"),
        Noun::User => (value.most_users, users, "users"),
        Noun::Device => (value.most_devices, devices, "devices"),
        Noun::Organization
        | Noun::Subnet
        | Noun::Tunnel
        | Noun::Server
        | Noun::Volume
        | Noun::Group
        | Noun::Vdisk
        | Noun::Menu => return Ok(Vec::new()),
    };
    Ok(match most {
        Some(most) if has >= most => {
            let message = format!("{} may have {most} {what}, and has them", value.name);
            vec![FieldError::new("name", message)]
        }
        _ => Vec::new(),
    })
}

impl Kind for Organization {
    fn check(
        &self,
        _: Work<'_>,
        _: Place,
        _: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        Ok(Vec::new())
    }
}

impl Kind for User {
    fn check(
        &self,
        work: Work<'_>,
        place: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let mut faults = Vec::new();
        if before.is_none() {
            faults.extend(limit(work, place, Noun::User)?);
        }
        if let Some(mail) = &self.mail {
            let (name, host) = mail.split_once('@').unwrap_or_default();
            let odd = |c: char| c.is_control() || c.is_whitespace();
            if name.is_empty() || host.is_empty() || mail.contains(odd) || mail.len() > 254 {
                faults.push(FieldError::new(
                    "mail",
                    "not a mail address: write it as name@example.org",
                ));
            }
        }
        let super_before =
            before.is_some_and(|before| before.value.standing == Standing::Superadmin);
        let super_after = self.standing == Standing::Superadmin;
        if (super_before || super_after) && !work.who.is_superadmin() {
            let message = "only a superadmin makes or changes a superadmin";
            faults.push(FieldError::new("standing", message));
        }
        let leaves = super_before && (!super_after || self.disabled);
        if leaves {
            faults.extend(last_superadmin(work, before)?);
        }
        Ok(faults)
    }

    fn check_delete(
        &self,
        work: Work<'_>,
        stored: &Stored<Self>,
    ) -> Result<Vec<FieldError>, Error> {
        if self.standing != Standing::Superadmin {
            return Ok(Vec::new());
        }
        if !work.who.is_superadmin() {
            let message = "only a superadmin deletes a superadmin";
            return Ok(vec![FieldError::new("standing", message)]);
        }
        last_superadmin(work, Some(stored))
    }
}

fn last_superadmin(
    work: Work<'_>,
    before: Option<&Stored<User>>,
) -> Result<Vec<FieldError>, Error> {
    let counts = before.is_some_and(|before| !before.value.disabled);
    Ok(if counts && work.tx.superadmins()? <= 1 {
        let message = "this is the last superadmin: make another one first";
        vec![FieldError::new("standing", message)]
    } else {
        Vec::new()
    })
}

impl Kind for Network {
    fn check(
        &self,
        work: Work<'_>,
        place: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let Some(before) = before else { return limit(work, place, Noun::Network) };
        let stranded = work.tx.stranded(before.id, &self.tunnels)?;
        if stranded == 0 {
            return Ok(Vec::new());
        }
        let message = format!(
            "{stranded} of its servers come through the tunnels that it has now alone: keep one of these until they come through another"
        );
        Ok(vec![FieldError::new("tunnels", message)])
    }
}

impl Kind for Tunnel {
    fn check(
        &self,
        work: Work<'_>,
        place: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let mut faults = Vec::new();
        let id = before.map(|before| before.id);
        let others = work.tx.all::<Self>(place)?.into_iter().filter(|other| Some(other.id) != id);
        let mut same = others.filter(|other| other.value.address() == self.address());
        if let Some(other) = same.next() {
            faults.push(FieldError::new("host", format!("{} is there already", other.value.name)));
        }
        if let Some(before) = before
            && before.value.name != self.name
            && work.tx.pairing(before.id)?.is_some()
        {
            let message = "its certificate has its name: forget the pairing first";
            faults.push(FieldError::new("name", message));
        }
        if self.port == 0 {
            faults.push(FieldError::new("port", "give a port from 1 to 65535"));
        }
        Ok(faults)
    }
}
