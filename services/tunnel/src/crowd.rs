//! Keeps one server, or boxes that join, from filling the tunnel with sessions: sshd bounds those alone that have not proved yet who
//! they are, and to join any key is good.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use host::sshd::LOGIN_GRACE;

use crate::{
    processes::{Process, Processes},
    users::JOIN_UID,
};

/// Sessions that a server may have at once. It needs one; others may be left from connections that broke unnoticed.
const MOST: usize = 8;
/// Boxes that join, all of them as one user: more than the service has places for.
const MOST_JOINING: usize = 128;
/// How long one that joins may stay, in clock ticks: until it is in, and then for as long as its command may take.
const JOINING_TICKS: u64 = (LOGIN_GRACE.as_secs() + 60) * 100;
/// How long more may last.
const PERIOD: Duration = Duration::from_secs(5);

/// Thins crowds out for as long as it is waited for.
pub async fn keep_thin() {
    let mut before = 0;
    loop {
        let thinned =
            tokio::task::spawn_blocking(move || thin_if_more(Path::new("/proc"), before)).await;
        match thinned {
            Ok(Ok((threads, ended))) => {
                before = threads;
                if ended > 0 {
                    tracing::warn!(ended, "a server had too many sessions");
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "sessions can't be counted"),
            Err(error) => tracing::error!(%error, "who counts sessions died"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Looks at every process only when there are so many more than before that they could be one server's. Returns how many there were,
/// and how many sessions were ended.
fn thin_if_more(processes: &Path, before: u64) -> io::Result<(u64, usize)> {
    let threads = Processes::of(processes).threads()?;
    if !may_be_a_crowd(before, threads) {
        // Fewer now is what the next crowd is measured by.
        return Ok((threads.min(before), 0));
    }
    Ok((threads, thin(processes, MOST)?))
}

/// Whether one server may have more sessions than it may have, when there were so many threads before and are so many now. Where all
/// was well before, it lacks that many threads for that.
fn may_be_a_crowd(before: u64, now: u64) -> bool {
    now > before.saturating_add(MOST as u64)
}

/// Ends a server's oldest sessions where there are more than these, among the processes that a folder tells of.
///
/// # Errors
/// The machine's processes can't be listed, or one can't be ended.
pub fn thin(processes: &Path, most: usize) -> io::Result<usize> {
    let processes = Processes::of(processes);
    let mut ended = 0;
    for (uid, pid, began) in surplus(&processes, most)? {
        let still = || {
            let same = processes.observe(pid)?.is_some_and(|now| now.uid == uid);
            Ok(same && processes.started(pid)? == Some(began))
        };
        ended += usize::from(processes.end(pid, still)?);
    }
    Ok(ended)
}

/// Sessions that are too many, by their user, number and beginning.
fn surplus(processes: &Processes, most: usize) -> io::Result<Vec<(u32, i32, u64)>> {
    let late = processes.now()?.saturating_sub(JOINING_TICKS);
    let mut sessions: BTreeMap<u32, Vec<(u64, i32)>> = BTreeMap::new();
    for pid in processes.list()? {
        let let_in = |it: &Process| it.is_of_server() || it.is_of(JOIN_UID);
        let Some(process) = processes.observe(pid)?.filter(let_in) else {
            continue;
        };
        // One of root's stands above each session; what it started itself ends with it.
        let above = processes.observe(process.parent)?;
        if above.is_none_or(|above| above.uid != process.uid) {
            let began = processes.started(pid)?.unwrap_or(0);
            sessions.entry(process.uid).or_default().push((began, pid));
        }
    }
    let mut surplus = Vec::new();
    for (uid, mut sessions) in sessions {
        sessions.sort_unstable_by(|one, other| other.cmp(one));
        let (most, late) = if uid == JOIN_UID { (MOST_JOINING, late) } else { (most, 0) };
        let stays = sessions.iter().take(most).take_while(|(began, _)| *began >= late).count();
        surplus.extend(sessions.into_iter().skip(stays).map(|(began, pid)| (uid, pid, began)));
    }
    Ok(surplus)
}

#[cfg(test)]
mod tests {
    use host::files;

    use super::*;
    use crate::processes::tests::Told;

    #[test]
    fn a_server_s_youngest_sessions_stay_and_nobody_else_s_go() {
        let told = Told::new();
        for (pid, uid, state, parent, start) in [
            (5_000_001, 210_001, "S", 1, 30),
            (5_000_002, 210_001, "S", 1, 10),
            (5_000_003, 210_001, "S", 1, 20),
            // Started by the session above it.
            (5_000_004, 210_001, "S", 5_000_001, 5),
            (5_000_005, 210_001, "Z", 1, 4),
            (5_000_006, 210_002, "S", 1, 1),
            (5_000_007, 0, "S", 1, 1),
            (5_000_008, 0, "S", 1, 1),
            (5_000_009, 0, "S", 1, 1),
        ] {
            told.process(pid, uid, state, parent, start);
        }
        let processes = Processes::of(told.0.path());
        assert_eq!(surplus(&processes, 3).unwrap(), []);
        assert_eq!(surplus(&processes, 2).unwrap(), [(210_001, 5_000_002, 10)]);
        assert_eq!(
            surplus(&processes, 1).unwrap(),
            [(210_001, 5_000_003, 20), (210_001, 5_000_002, 10)]
        );
        assert_eq!(thin(told.0.path(), 1).unwrap(), 0, "nobody has these numbers");
    }

    #[test]
    fn a_crowd_is_noticed_at_once_or_bit_by_bit_and_nobody_is_counted_while_it_is_quiet() {
        let told = Told::new();
        let kept = |before: u64, now: u64| {
            let text = format!("0.00 0.00 0.00 1/{now} 99\n");
            files::write_atomic(&told.0.path().join("loadavg"), text.as_bytes(), 0o644).unwrap();
            thin_if_more(told.0.path(), before).unwrap()
        };
        let most = MOST as u64;
        for (before, now, after) in [
            (0, most, 0),
            (0, most + 1, most + 1),
            (100, 100 + most, 100),
            (100, 101 + most, 101 + most),
            (100, 90, 90),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            assert_eq!(kept(before, now), (after, 0), "{before} {now}");
        }
    }

    #[test]
    fn boxes_that_join_stay_no_longer_than_that_takes_and_are_not_too_many() {
        let told = Told::new();
        // It is tick 10,000 there.
        for (pid, start) in [(5_000_001, 1_990), (5_000_002, 2_010), (5_000_003, 9_000)] {
            told.process(pid, JOIN_UID, "S", 1, start);
        }
        let over = |told: &Told| surplus(&Processes::of(told.0.path()), MOST).unwrap();
        assert_eq!(over(&told), [(JOIN_UID, 5_000_001, 1_990)]);
        for number in 0..i32::try_from(MOST_JOINING).unwrap() {
            told.process(5_001_000 + number, JOIN_UID, "S", 1, 9_500);
        }
        assert_eq!(over(&told).len(), 3, "the oldest go");
    }
}
