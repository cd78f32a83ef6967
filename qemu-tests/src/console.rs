//! Owns the conversation with the root shell on a machine's debug port. Each command stands between marks with a nonce
//! of its own, so noise, late output of an earlier command and a shell that was restarted are never taken for an answer.

use crate::process::Process;
use crate::wait::secs;
use crate::workspace::token;
use anyhow::{Context, Result, bail};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// How long one greeting waits before the next is tried: a shell that starts may lose the first.
const GREETING: Duration = Duration::from_secs(3);
/// A file goes to the guest in commands of about this size.
const CHUNK_BYTES: usize = 48 * 1024;

/// What a command in the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; above 128 it was killed by a signal.
    pub status: i32,
    /// What it wrote to stdout and stderr, in the order written.
    pub stdout: String,
}

impl Output {
    /// Whether it ended with status 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }
}

/// The debug shell of a running machine; clones talk to the same shell, one command at a time.
#[derive(Debug, Clone)]
pub struct Console {
    process: Arc<Process>,
    channel: Arc<Mutex<Channel>>,
}

#[derive(Debug)]
struct Channel {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Console {
    pub(crate) fn new(process: Arc<Process>, stream: UnixStream) -> Self {
        Self { process, channel: Arc::new(Mutex::new(Channel { stream, bytes: Vec::new() })) }
    }

    /// Runs `script` by the guest's `sh` as root, with an empty stdin; a minute at the most.
    pub async fn exec(&self, script: &str) -> Result<Output> {
        self.exec_within(script, secs(60)).await
    }

    /// Runs `script`; the time includes waiting for the shell to answer at all. The script is sent once at most.
    pub async fn exec_within(&self, script: &str, timeout: Duration) -> Result<Output> {
        let deadline = Instant::now() + timeout;
        let mut channel = self.channel.lock().await;
        let talk = async {
            channel.greet(deadline).await?;
            channel.run(script, deadline).await
        };
        tokio::select! {
            answer = talk => answer.with_context(|| format!("in the guest: {script}")),
            () = self.process.exited() => bail!("the machine ended while the guest ran: {script}"),
        }
    }

    /// Like [`Self::exec`], but a status other than 0 is an error that shows what was printed.
    pub async fn check(&self, script: &str) -> Result<String> {
        let output = self.exec(script).await?;
        if !output.success() {
            bail!(
                "in the guest: {script}\nended with status {}: {}",
                output.status,
                output.stdout.trim_end()
            );
        }
        Ok(output.stdout)
    }

    /// Waits until the shell answers.
    pub async fn ready(&self, timeout: Duration) -> Result<()> {
        self.exec_within(":", timeout).await.map(drop)
    }

    /// Writes `bytes` to the guest's file `path`.
    pub async fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = quoted(path);
        self.check(&format!(": >{path}")).await?;
        for chunk in bytes.chunks(CHUNK_BYTES) {
            self.check(&format!("echo {} | base64 -d >>{path}", base64(chunk))).await?;
        }
        Ok(())
    }

    /// Reads the guest's file `path`.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let text = self.check(&format!("base64 {}", quoted(path))).await?;
        base64_bytes(&text)
            .with_context(|| format!("the guest sent {path} in pieces that are not base64"))
    }

    /// Sets the guest's clock to this machine's: it stood still while the machine's state was saved.
    pub async fn set_clock(&self) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        self.check(&format!("date -s @{}", now.as_secs())).await.map(drop)
    }
}

impl Channel {
    /// Asks for a sign of life until one comes: what is sent to a shell that is not there yet may be lost.
    async fn greet(&mut self, deadline: Instant) -> Result<()> {
        loop {
            let mark = format!("@@{}", token());
            self.send(&format!("\nprintf '\\n%s%s\\n' '@@' '{}'\n", mark.trim_start_matches('@')))
                .await?;
            let patience = deadline.min(Instant::now() + GREETING);
            if self.line_with(&format!("\n{mark}\n"), patience).await?.is_some() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the debug shell did not answer");
            }
        }
    }

    async fn run(&mut self, script: &str, deadline: Instant) -> Result<Output> {
        let nonce = token();
        // The marks are put together by the shell: a terminal that echoes the command does not show them.
        self.send(&format!(
            "printf '\\n%s%s\\n' '@@begin-' '{nonce}'; sh -c {} </dev/null 2>&1; printf '\\n%s%s:%d\\n' '@@end-' '{nonce}' $?\n",
            quoted(script)
        ))
        .await?;
        let begin = format!("\n@@begin-{nonce}\n");
        self.line_with(&begin, deadline).await?.context("the debug shell did not begin")?;
        let end = format!("\n@@end-{nonce}:");
        let before =
            self.line_with(&end, deadline).await?.context("the command did not end in time")?;
        let status =
            self.line_with("\n", deadline).await?.context("the command's status did not come")?;
        let status = String::from_utf8_lossy(&status);
        let status =
            status.trim().parse().with_context(|| format!("{status:?} is no exit status"))?;
        Ok(Output { status, stdout: String::from_utf8_lossy(&before).into_owned() })
    }

    async fn send(&mut self, text: &str) -> Result<()> {
        self.stream.write_all(text.as_bytes()).await.context("the debug port is closed")
    }

    /// What stands before `mark`; both are taken out. None when `deadline` came first.
    async fn line_with(&mut self, mark: &str, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let mut searched: usize = 0;
        loop {
            let from = searched.saturating_sub(mark.len());
            let window = self.bytes.get(from..).unwrap_or_default();
            if let Some(at) = window.windows(mark.len()).position(|part| part == mark.as_bytes()) {
                let before = self.bytes.drain(..from + at).collect();
                self.bytes.drain(..mark.len());
                return Ok(Some(before));
            }
            searched = self.bytes.len();
            match tokio::time::timeout_at(deadline.into(), self.stream.read_buf(&mut self.bytes))
                .await
            {
                Err(_) => return Ok(None),
                Ok(Ok(0)) => bail!("the debug port is closed"),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error).context("the debug port cannot be read"),
            }
        }
    }
}

/// One word for POSIX sh, whatever it holds.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let padded =
            group.iter().chain(&[0, 0]).take(3).fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit =
                ALPHABET.get((padded >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if place > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=')
        .map(|byte| {
            ALPHABET.iter().position(|digit| *digit == byte).and_then(|at| u32::try_from(at).ok())
        })
        .collect();
    let mut bytes = Vec::new();
    for group in digits?.chunks(4) {
        let sum = group.iter().chain(&[0, 0, 0]).take(4).fold(0u32, |sum, digit| sum << 6 | digit);
        bytes.extend(sum.to_be_bytes().into_iter().skip(1).take(group.len() * 6 / 8));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{base64, base64_bytes, quoted};

    #[test]
    fn base64_has_the_test_vectors_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
            assert_eq!(base64_bytes(encoded).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn base64_of_all_bytes_comes_back_also_when_wrapped_in_lines() {
        let all: Vec<u8> = (0..=255).collect();
        let wrapped = base64(&all)
            .as_bytes()
            .chunks(76)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect::<Vec<_>>();
        assert_eq!(base64_bytes(&wrapped.join("\n")).unwrap(), all);
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        assert_eq!(base64_bytes("Zm9v!"), None);
    }

    #[test]
    fn quotes_in_a_script_stay_quotes() {
        assert_eq!(quoted("echo 'a'"), r"'echo '\''a'\'''");
    }
}
