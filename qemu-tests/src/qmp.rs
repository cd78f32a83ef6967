//! Owns the QMP conversation with one QEMU process: one command at a time, events kept until someone waits for them.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// No command of ours takes longer by itself; long work (migration) is started by one and watched by others.
const ANSWER: Duration = Duration::from_secs(60);
/// Events that nobody waited for; the oldest are forgotten.
const KEPT_EVENTS: usize = 256;

/// QEMU's control channel.
#[derive(Debug)]
pub struct Qmp {
    channel: Mutex<Channel>,
}

#[derive(Debug)]
struct Channel {
    stream: UnixStream,
    bytes: Vec<u8>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Takes QEMU's greeting and leaves negotiation mode.
    pub(crate) async fn open(stream: UnixStream) -> Result<Self> {
        let qmp = Self {
            channel: Mutex::new(Channel { stream, bytes: Vec::new(), events: VecDeque::new() }),
        };
        let greeting =
            tokio::time::timeout(ANSWER, async { qmp.channel.lock().await.message().await })
                .await??;
        if greeting.get("QMP").is_none() {
            bail!("QEMU greeted with {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs `command` and returns its answer; QEMU's refusal is an error with its words.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        let mut channel = self.channel.lock().await;
        let request = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        let answer = async {
            channel.stream.write_all(request.as_bytes()).await?;
            channel.answer().await
        };
        let answer = tokio::time::timeout(ANSWER, answer).await;
        answer
            .with_context(|| format!("QEMU did not answer {command}"))?
            .with_context(|| format!("QEMU refused {}", request.trim()))
    }

    /// Waits for the next event `name`, also one that came since the last command.
    pub async fn wait_event(&self, name: &str, timeout: Duration) -> Result<Value> {
        let mut channel = self.channel.lock().await;
        let event = tokio::time::timeout(timeout, channel.event(name)).await;
        event.with_context(|| format!("QEMU sent no {name} within {timeout:?}"))?
    }

    /// Cold reset, as by the button.
    pub async fn reset(&self) -> Result<()> {
        self.execute("system_reset", json!({})).await.map(drop)
    }

    /// Presses the power button (ACPI): the guest shuts itself down.
    pub async fn powerdown(&self) -> Result<()> {
        self.execute("system_powerdown", json!({})).await.map(drop)
    }

    /// Stops the processors.
    pub async fn pause(&self) -> Result<()> {
        self.execute("stop", json!({})).await.map(drop)
    }

    /// Undoes [`Self::pause`].
    pub async fn resume(&self) -> Result<()> {
        self.execute("cont", json!({})).await.map(drop)
    }

    /// Writes what the screen shows as PNG (QEMU 7.1).
    pub async fn screendump(&self, path: &Path) -> Result<()> {
        self.execute("screendump", json!({"filename": path, "format": "png"})).await.map(drop)
    }

    /// Takes the cable of network card `index` out, as the guest's driver sees it, or puts it back.
    pub async fn set_link(&self, index: usize, up: bool) -> Result<()> {
        self.execute("set_link", json!({"name": format!("nic{index}"), "up": up})).await.map(drop)
    }
}

impl Channel {
    async fn answer(&mut self) -> Result<Value> {
        loop {
            let message = self.message().await?;
            if let Some(value) = message.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = message.get("error") {
                bail!("{}", error.get("desc").and_then(Value::as_str).unwrap_or("no reason given"));
            }
            self.keep(message);
        }
    }

    async fn event(&mut self, name: &str) -> Result<Value> {
        let is_wanted = |event: &Value| event.get("event").and_then(Value::as_str) == Some(name);
        if let Some(at) = self.events.iter().position(is_wanted) {
            return self.events.remove(at).context("the event was there a moment ago");
        }
        loop {
            let message = self.message().await?;
            if is_wanted(&message) {
                return Ok(message);
            }
            self.keep(message);
        }
    }

    fn keep(&mut self, event: Value) {
        if self.events.len() == KEPT_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// One line. Bytes of a line that a timeout interrupted stay for the next call.
    async fn message(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return serde_json::from_slice(&line).context("QEMU sent what is not JSON");
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                bail!("QEMU closed the control channel");
            }
        }
    }
}
