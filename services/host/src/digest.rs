//! SHA-256 of files that are larger than memory.

use std::{fs::File, io, io::Read as _, path::Path};

use model::name::Sha256;
use sha2::Digest as _;

/// Bytes that are read and digested at a time: between two such pieces the work can be dropped.
const PIECE: usize = 4 << 20;

/// The digest of a file or device. `report` is told the bytes that are done, and the bytes in all where they are known.
///
/// # Errors
/// It can't be read.
pub async fn sha256(path: &Path, report: impl Fn(u64, Option<u64>)) -> io::Result<Sha256> {
    let mut file = File::open(path)?;
    let total_bytes = Some(file.metadata()?.len()).filter(|length| *length > 0);
    let (mut hasher, mut piece, mut done_bytes) = (sha2::Sha256::new(), vec![0; PIECE], 0);
    loop {
        let step = tokio::task::spawn_blocking(move || {
            let count = file.read(&mut piece)?;
            hasher.update(piece.get(..count).unwrap_or_default());
            io::Result::Ok((file, hasher, piece, count))
        });
        let count;
        (file, hasher, piece, count) = step
            .await
            .expect("the work returns its failures, and it is not cancelled once it runs")?;
        if count == 0 {
            break;
        }
        done_bytes += count as u64;
        report(done_bytes, total_bytes);
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(hex.parse().expect("32 bytes in hexadecimal are a digest"))
}
