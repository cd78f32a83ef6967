//! A notice in words, and as JSON.

use serde_json::{Value, json};

use super::Notice;
use crate::alerts::Alert;

/// A notice, ready for every way.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    /// The number of the notice; 0 of a trial.
    pub id: i64,
    /// One line.
    pub subject: String,
    /// All of it.
    pub text: String,
    /// The same for programs.
    pub json: Value,
    /// When it is sent, in seconds since 1970.
    pub time_s: u64,
}

fn name(alert: &Alert) -> String {
    match &alert.network {
        Some(network) if *network != alert.about.name => {
            format!("{} of {network}", alert.about.name)
        }
        _ => alert.about.name.clone(),
    }
}

impl Words {
    /// Puts a notice into words; `link` is where an alert is mended.
    pub fn new(id: i64, notice: &Notice, time_s: u64, link: impl Fn(&Alert) -> String) -> Self {
        let lines = |alerts: &[Alert]| -> String {
            let line = |alert: &Alert| {
                let (severity, name, cause) = (alert.severity.word(), name(alert), &alert.cause);
                format!("[{severity}] {name}: {cause}.\n    {}\n", link(alert))
            };
            alerts.iter().map(line).collect()
        };
        let mut text = String::new();
        if notice.trial {
            text.push_str("This tries whether notices come here. They do.\n");
        }
        if !notice.began.is_empty() {
            text.push_str(&format!("Began:\n{}\n", lines(&notice.began)));
        }
        if !notice.ended.is_empty() {
            text.push_str(&format!("Ended:\n{}\n", lines(&notice.ended)));
        }
        let values = |alerts: &[Alert]| -> Vec<Value> {
            let value = |alert: &Alert| {
                json!({ "key": alert.key, "severity": alert.severity, "since_ms": alert.since_ms,
                    "about": alert.about, "network": alert.network, "cause": alert.cause.word(),
                    "text": alert.cause.to_string(), "link": link(alert) })
            };
            alerts.iter().map(value).collect()
        };
        let json = json!({ "notice": id, "time_s": time_s, "trial": notice.trial,
            "began": values(&notice.began), "ended": values(&notice.ended) });
        Self { id, subject: subject(notice), text, json, time_s }
    }
}

fn subject(notice: &Notice) -> String {
    let one = |verb: &str, alert: &Alert| {
        format!("{verb}{}: {}: {}", alert.severity.word(), name(alert), alert.cause)
    };
    match (notice.began.as_slice(), notice.ended.as_slice()) {
        ([], []) => "a trial".to_owned(),
        ([alert], []) => one("", alert),
        ([], [alert]) => one("ended: ", alert),
        (began, ended) => {
            let worst = began.iter().map(|alert| alert.severity).max();
            let worst = worst.map(|worst| format!(", the worst {}", worst.word()));
            let (began, ended) = (began.len(), ended.len());
            format!("{began} alerts began and {ended} ended{}", worst.unwrap_or_default())
        }
    }
}
