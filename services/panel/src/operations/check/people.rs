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
        if before.is_some() { Ok(Vec::new()) } else { limit(work, place, Noun::Network) }
    }
}

impl Kind for Tunnel {
    fn check(
        &self,
        _: Work<'_>,
        _: Place,
        _: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let odd = |c: char| !(c.is_ascii_alphanumeric() || ".:-".contains(c));
        let mut faults = Vec::new();
        if self.host.as_str().contains(odd) {
            faults.push(FieldError::new("host", "give a host name or an address"));
        }
        if self.port == 0 {
            faults.push(FieldError::new("port", "give a port from 1 to 65535"));
        }
        Ok(faults)
    }
}
