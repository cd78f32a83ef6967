//! Unix users as drop-in records (nss-systemd(8), systemd.io/USER_RECORD): a JSON file for each, and a link to it that is named by
//! the user's number. It touches the records that it is asked for, and no others. sshd(8) asks for no group by its number, and so
//! there are no records of groups.
//!
//! Without a hashed password nss-systemd makes one that begins with `!`, and sshd(8) without PAM takes that for a locked account.
//! What is said of passwords lies in a file beside the record, which is the same one for all: no password hashes to `*`.

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

const NO_PASSWORD: &str = "no-password";
const NO_PASSWORD_TEXT: &str = "{\"privileged\":{\"hashedPassword\":[\"*\"]}}\n";

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
    };
    serde_json::to_string(&record).expect("a struct of texts and numbers is always JSON") + "\n"
}

/// Brings a user's record into the folder of records, which has to exist.
///
/// # Errors
/// The record or a link can't be written.
pub fn ensure(folder: &Path, user: &User) -> Result<Change, Error> {
    let changes = [
        files::write_atomic(&folder.join(NO_PASSWORD), NO_PASSWORD_TEXT.as_bytes(), 0o644)?,
        ensure_link(&privileged_of(folder, &user.name), NO_PASSWORD)?,
        files::write_atomic(&record_of(folder, &user.name), render(user).as_bytes(), 0o644)?,
        ensure_link(&link_of(folder, user.uid), &format!("{}.user", user.name))?,
    ];
    Ok(any(&changes))
}

fn ensure_link(link: &Path, target: &str) -> Result<Change, Error> {
    if fs::read_link(link).is_ok_and(|there| there == Path::new(target)) {
        return Ok(Change::Unchanged);
    }
    files::remove_if_exists(link)?;
    let error = |source| Error { action: Action::Write, path: link.to_owned(), source };
    symlink(target, link).map_err(error)?;
    Ok(Change::Changed)
}

/// Takes a user's record away.
///
/// # Errors
/// The record or a link is there and can't be removed.
pub fn remove(folder: &Path, name: &str, uid: u32) -> Result<Change, Error> {
    let changes = [
        files::remove_if_exists(&record_of(folder, name))?,
        files::remove_if_exists(&link_of(folder, uid))?,
        files::remove_if_exists(&privileged_of(folder, name))?,
    ];
    Ok(any(&changes))
}

fn any(changes: &[Change]) -> Change {
    let changed = changes.contains(&Change::Changed);
    if changed { Change::Changed } else { Change::Unchanged }
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

fn privileged_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.user-privileged"))
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
             \"gid\":210007,\"homeDirectory\":\"/\",\"shell\":\"/usr/sbin/nologin\"}\n"
        );
    }

    #[test]
    fn a_user_is_made_once_found_by_name_and_number_and_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let there = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(ensure(folder.path(), &duck()).unwrap(), Change::Changed);
        assert_eq!(ensure(folder.path(), &duck()).unwrap(), Change::Unchanged);
        assert_eq!(there("210007.user"), Some(render(&duck())));
        assert_eq!(there("a10007.user-privileged").as_deref(), Some(NO_PASSWORD_TEXT));
        assert_eq!(list(folder.path()).unwrap(), ["a10007"]);
        fs::remove_file(folder.path().join("210007.user")).unwrap();
        assert_eq!(ensure(folder.path(), &duck()).unwrap(), Change::Changed);
        assert_eq!(remove(folder.path(), "a10007", 210_007).unwrap(), Change::Changed);
        assert_eq!(remove(folder.path(), "a10007", 210_007).unwrap(), Change::Unchanged);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert!(matches!(&left[..], [Ok(left)] if left.file_name() == NO_PASSWORD), "{left:?}");
    }
}
