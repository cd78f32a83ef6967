//! Owns writing the libpcap file format (version 2.4, link type Ethernet). Every record is in the file when `write`
//! returns: a test that is killed leaves a whole recording.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const LINK_TYPE_ETHERNET: u32 = 1;

/// An open recording.
#[derive(Debug)]
pub(super) struct Pcap {
    file: File,
    snap_bytes: u32,
    record: Vec<u8>,
}

impl Pcap {
    pub(super) fn create(path: &Path, snap_bytes: u32) -> Result<Self> {
        let mut file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC_MICROSECONDS.to_le_bytes());
        header.extend(2u16.to_le_bytes());
        header.extend(4u16.to_le_bytes());
        header.extend([0; 8]); // time zone and accuracy: always zero
        header.extend(snap_bytes.to_le_bytes());
        header.extend(LINK_TYPE_ETHERNET.to_le_bytes());
        file.write_all(&header).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, snap_bytes, record: Vec::new() })
    }

    pub(super) fn write(&mut self, frame: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let kept = length.min(self.snap_bytes);
        let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        self.record.clear();
        for field in [seconds, now.subsec_micros(), kept, length] {
            self.record.extend(field.to_le_bytes());
        }
        self.record.extend(frame.iter().take(kept as usize));
        if let Err(error) = self.file.write_all(&self.record) {
            eprintln!("the recording of the LAN has a hole: {error}");
        }
    }
}
