//! The newest boot of each device as a journal: a device that boots costs a line, however many devices there are. A line is
//! `["<device>",<boot>]`, with `null` for a device whose boot is over; of a device's lines the last one counts. What stands there and
//! is no boot that we know costs its own device and no other: after an update that failed, an older agent reads these lines.

use std::path::Path;

use host::files::{self, Journal};
use model::{
    boot::{Boot, Boots},
    name::DeviceName,
};

use serde_json::Value;

use super::MODE;

const FILE: &str = "boots.jsonl";
/// So many lines beside those that count are not worth a new file.
const SPARE_LINES: usize = 4096;

/// The journal.
#[derive(Debug)]
pub struct BootLog {
    journal: Journal,
    lines: usize,
}

impl BootLog {
    pub(super) fn open(folder: &Path) -> Result<(Self, Boots), files::Error> {
        let (mut boots, mut lines) = (Boots::new(), 0);
        let journal = Journal::open(&folder.join(FILE), MODE, |line| {
            let Ok((device, boot)) = serde_json::from_slice::<(DeviceName, Value)>(line) else {
                return false;
            };
            lines += 1;
            match serde_json::from_value(boot) {
                Ok(Some(boot)) => drop(boots.insert(device, boot)),
                Ok(None) => drop(boots.remove(&device)),
                Err(error) => {
                    tracing::warn!(%device, %error, "a boot that a newer agent kept; its device has to start again");
                    boots.remove(&device);
                }
            }
            true
        })?;
        Ok((Self { journal, lines }, boots))
    }

    /// Keeps what `boots` says of the devices that changed. When it returns, that survives a power cut.
    ///
    /// # Errors
    /// The file can't be written; it says what it said before.
    pub async fn keep(
        &mut self,
        boots: &Boots,
        changed: impl IntoIterator<Item = &DeviceName>,
    ) -> Result<(), files::Error> {
        let mut text = Vec::new();
        let mut count = 0;
        for device in changed {
            write_line(&mut text, device, boots.get(device));
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        if self.lines + count <= boots.len() + SPARE_LINES {
            self.journal.append(text).await?;
            self.lines += count;
        } else {
            text.clear();
            boots.iter().for_each(|(device, boot)| write_line(&mut text, device, Some(boot)));
            self.journal.replace(text).await?;
            self.lines = boots.len();
        }
        Ok(())
    }
}

fn write_line(text: &mut Vec<u8>, device: &DeviceName, boot: Option<&Boot>) {
    serde_json::to_writer(&mut *text, &(device, boot)).expect("names and numbers go into a Vec");
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use model::{
        boot::{Chap, Secret},
        desired::BootMode,
    };

    use super::*;

    fn boot(number: usize) -> Boot {
        let secret = |of: &str| Secret::new(format!("{of}{number:015}"));
        let chap = Chap {
            user: "u".into(),
            password: secret("p"),
            target_user: "t".into(),
            target_password: secret("q"),
        };
        let id = format!("{number:032x}").parse().unwrap();
        Boot {
            id,
            generation: 1,
            boot_mode: BootMode::Overlay,
            from: Ipv4Addr::LOCALHOST,
            chap: Arc::new(chap),
        }
    }

    fn pc(number: usize) -> DeviceName {
        format!("pc-{number}").parse().unwrap()
    }

    #[tokio::test]
    async fn the_newest_boot_of_each_device_is_read_again_and_one_that_is_over_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, mut boots) = BootLog::open(folder.path()).unwrap();
        assert!(boots.is_empty());
        for number in 0..3 {
            boots.insert(pc(number % 2), boot(number));
            log.keep(&boots, [&pc(number % 2)]).await.unwrap();
        }
        assert_eq!(BootLog::open(folder.path()).unwrap().1, boots);
        boots.remove(&pc(0));
        log.keep(&boots, [&pc(0)]).await.unwrap();
        assert_eq!(BootLog::open(folder.path()).unwrap().1, boots);
        assert_eq!(boots.len(), 1);
    }

    #[tokio::test]
    async fn a_boot_of_a_kind_that_is_not_known_here_costs_its_own_device_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, mut boots) = BootLog::open(folder.path()).unwrap();
        boots.extend([(pc(0), boot(0)), (pc(1), boot(1))]);
        log.keep(&boots, [&pc(0)]).await.unwrap();
        let newer = r#"["pc-0",{"boot_mode":"maintenance"}]"#;
        log.journal.append(format!("{newer}\n").into_bytes()).await.unwrap();
        log.keep(&boots, [&pc(1)]).await.unwrap();
        boots.remove(&pc(0));
        assert_eq!(BootLog::open(folder.path()).unwrap().1, boots);
    }

    #[tokio::test]
    async fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, mut boots) = BootLog::open(folder.path()).unwrap();
        let devices: Vec<DeviceName> = (0..500).map(pc).collect();
        for number in 0..40 {
            boots.extend(devices.iter().map(|device| (device.clone(), boot(number))));
            log.keep(&boots, &devices).await.unwrap();
        }
        let text = std::fs::read(folder.path().join(FILE)).unwrap();
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        assert!((500..=500 + SPARE_LINES).contains(&lines), "{lines} lines");
        assert_eq!(BootLog::open(folder.path()).unwrap().1, boots);
    }
}
