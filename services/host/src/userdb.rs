//! Unix users as drop-in records (nss-systemd(8), systemd.io/USER_RECORD): one JSON file a user and a link to it that is named by
//! the user's number. It touches the records that it is asked for, and no others. sshd(8) asks for no group by its number, and so
//! there are no records of groups.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::files::{self, Action, Change, Error};

/// A user who has a key at most: no password, no home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// Who it is, for people.
    pub real_name: String,
    /// What runs its commands.
    pub shell: &'static str,
}

/// USER_RECORD, the fields that we say.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    user_name: &'a str,
    real_name: &'a str,
    disposition: &'a str,
    uid: u32,
    gid: u32,
    home_directory: &'a str,
    shell: &'a str,
    privileged: Privileged,
}

/// Without a hashed password nss-systemd makes one that begins with `!`, and sshd(8) without PAM takes that for a locked account.
/// No password hashes to `*`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Privileged {
    hashed_password: [&'static str; 1],
}

/// The text of a record.
pub fn render(user: &User) -> String {
    let record = Record {
        user_name: &user.name,
        real_name: &user.real_name,
        disposition: "system",
        uid: user.uid,
        gid: user.gid,
        home_directory: "/",
        shell: user.shell,
        privileged: Privileged { hashed_password: ["*"] },
    };
    serde_json::to_string(&record).expect("a struct of texts and numbers is always JSON") + "\n"
}

/// Brings a user's record into the folder of records, which has to exist.
///
/// # Errors
/// The record or its link can't be written.
pub fn ensure(folder: &Path, user: &User) -> Result<Change, Error> {
    let record = record_of(folder, &user.name);
    let written = files::write_atomic(&record, render(user).as_bytes(), 0o644)?;
    let (link, target) = (link_of(folder, user.uid), format!("{}.user", user.name));
    if fs::read_link(&link).is_ok_and(|there| there == Path::new(&target)) {
        return Ok(written);
    }
    files::remove_if_exists(&link)?;
    symlink(target, &link).map_err(|source| Error { action: Action::Write, path: link, source })?;
    Ok(Change::Changed)
}

/// Takes a user's record away.
///
/// # Errors
/// The record or its link is there and can't be removed.
pub fn remove(folder: &Path, name: &str, uid: u32) -> Result<Change, Error> {
    let record = files::remove_if_exists(&record_of(folder, name))?;
    let link = files::remove_if_exists(&link_of(folder, uid))?;
    Ok(if record == Change::Changed { record } else { link })
}

/// The names of the users that have a record in the folder; none where it is not there.
///
/// # Errors
/// The folder can't be read.
pub fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let error = |source| Error { action: Action::Read, path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(error)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(error)?.file_name();
        let user = name.to_str().and_then(|name| name.strip_suffix(".user"));
        // A number is the link to a name.
        let user = user.filter(|user| !user.bytes().all(|byte| byte.is_ascii_digit()));
        names.extend(user.map(str::to_owned));
    }
    Ok(names)
}

fn record_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.user"))
}

fn link_of(folder: &Path, uid: u32) -> PathBuf {
    folder.join(format!("{uid}.user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duck() -> User {
        User {
            name: "a10007".to_owned(),
            uid: 210_007,
            gid: 210_007,
            real_name: "server 3".to_owned(),
            shell: "/usr/sbin/nologin",
        }
    }

    #[test]
    fn a_record_is_what_the_specification_calls_one() {
        assert_eq!(
            render(&duck()),
            "{\"userName\":\"a10007\",\"realName\":\"server 3\",\"disposition\":\"system\",\"uid\":210007,\
             \"gid\":210007,\"homeDirectory\":\"/\",\"shell\":\"/usr/sbin/nologin\",\
             \"privileged\":{\"hashedPassword\":[\"*\"]}}\n"
        );
    }

    #[test]
    fn a_user_is_made_once_found_by_name_and_number_and_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let there = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(ensure(folder.path(), &duck()).unwrap(), Change::Changed);
        assert_eq!(ensure(folder.path(), &duck()).unwrap(), Change::Unchanged);
        assert_eq!(there("210007.user"), Some(render(&duck())));
        assert_eq!(list(folder.path()).unwrap(), ["a10007"]);
        fs::remove_file(folder.path().join("210007.user")).unwrap();
        assert_eq!(ensure(folder.path(), &duck()).unwrap(), Change::Changed);
        assert_eq!(remove(folder.path(), "a10007", 210_007).unwrap(), Change::Changed);
        assert_eq!(remove(folder.path(), "a10007", 210_007).unwrap(), Change::Unchanged);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
