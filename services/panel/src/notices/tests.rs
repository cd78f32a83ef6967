use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    alerts::{About, Cause},
    noun::{Noun, Place},
};

fn alert(number: i64, cause: Cause) -> Alert {
    Alert {
        key: format!("{}/{number}", cause.word()),
        severity: Severity::Critical,
        since_ms: 1_000,
        about: About { noun: Some(Noun::Server), id: number, name: format!("agent-{number}") },
        place: Place::Network(Id::new(3)),
        organization: Some(Id::new(2)),
        network: Some("north".to_owned()),
        cause,
    }
}

fn words(notice: &Notice) -> Words {
    Words::new(5, notice, 1_700_000_000, |alert| {
        format!("https://panel/servers/{}", alert.about.id)
    })
}

fn notice() -> Notice {
    let error = Some("no route\r\nBcc: all@example.org".to_owned());
    let began = vec![alert(1, Cause::Silent { seen_ms: 1, error })];
    Notice { began, ..Notice::default() }
}

/// A mail server on loopback that says what a relay says; it refuses this recipient. What it took comes back.
async fn mail_server(refuses: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, taken) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let mails = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, refuses, Arc::clone(&mails)));
        }
    });
    (port, taken)
}

/// RFC 5321, as far as a client that does all well needs it.
async fn talk(stream: TcpStream, refuses: &str, mails: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 relay.example ESMTP\r\n").await.ok()?;
    let mut mail = String::new();
    while let Some(line) = lines.next_line().await.ok()? {
        mail.push_str(&line);
        mail.push('\n');
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-relay.example\r\n250 AUTH PLAIN",
            "AUTH" => "235 welcome",
            "RCPT" if line.contains(refuses) => "550 5.1.1 nobody is called so",
            "DATA" => {
                write.write_all(b"354 go on\r\n").await.ok()?;
                while let Some(line) = lines.next_line().await.ok()?.filter(|line| line != ".") {
                    mail.push_str(&line);
                    mail.push('\n');
                }
                mails.lock().unwrap().push(std::mem::take(&mut mail));
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
    Some(())
}

fn mail(port: u16, to: &[&str]) -> Channel {
    Channel {
        name: "mail".parse().unwrap(),
        least: Severity::Info,
        private: false,
        way: Way::Mail(Mail {
            host: "127.0.0.1".to_owned(),
            port,
            security: Security::None,
            user: Some("panel".to_owned()),
            from: "panel@example.org".to_owned(),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
        }),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

#[tokio::test]
async fn a_mail_server_gets_a_letter_with_one_subject_line() {
    let (port, taken) = mail_server("refused@").await;
    let channel = mail(port, &["ada@example.org", "bob@example.org"]);
    let secret = Some(SecretSlice::from(b"password".to_vec()));
    send(&channel, secret, &words(&notice()), Reach::anywhere()).await.unwrap();
    let taken = taken.lock().unwrap().pop().unwrap();
    for part in [
        "RCPT TO:<ada@example.org>",
        "RCPT TO:<bob@example.org>",
        "Subject: [clusterducks] critical: agent-1 of north: it does not answer",
        "https://panel/servers/1",
    ] {
        assert!(taken.contains(part), "{part} is not in {taken}");
    }
    // `\0panel\0password` in Base64 (RFC 4616).
    assert!(taken.contains("AUTH PLAIN AHBhbmVsAHBhc3N3b3Jk"), "{taken}");
    let (head, _) = taken.split_once("\n\n").unwrap();
    assert!(!head.lines().any(|line| line.starts_with("Bcc:")), "{head}");
}

#[tokio::test]
async fn what_a_mail_server_says_is_told() {
    let (port, taken) = mail_server("refused@").await;
    let channel = mail(port, &["refused@example.org"]);
    let refused = send(&channel, None, &words(&notice()), Reach::anywhere()).await.unwrap_err();
    assert!(matches!(refused, Error::Smtp(_)), "{refused:?}");
    assert!(chain(&refused).contains("nobody is called so"), "{}", chain(&refused));
    assert!(taken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_mail_server_that_is_dead_or_speaks_no_tls_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let channel = mail(port, &["a@example.org"]);
    let dead = send(&channel, None, &words(&notice()), Reach::anywhere()).await.unwrap_err();
    assert!(matches!(dead, Error::Smtp(_)) && dead.retryable(), "{dead:?}");
    let (port, taken) = mail_server("refused@").await;
    let mut channel = mail(port, &["a@example.org"]);
    let Way::Mail(way) = &mut channel.way else { unreachable!() };
    way.security = Security::Starttls;
    let plain = send(&channel, None, &words(&notice()), Reach::anywhere()).await.unwrap_err();
    assert!(matches!(plain, Error::Smtp(_)), "{plain:?}");
    assert!(taken.lock().unwrap().is_empty(), "nothing is sent in the clear");
}

/// A hook on loopback that answers with these statuses; what it was sent comes back.
async fn hook_server(statuses: &'static [u16]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, taken) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let requests = Arc::clone(&taken);
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut request, mut buffer) = (Vec::new(), [0_u8; 4096]);
            loop {
                let read = stream.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&request);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse().unwrap() {
                    break;
                }
            }
            requests.lock().unwrap().push(String::from_utf8(request).unwrap());
            let answer = format!(
                "HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, taken)
}

fn hook(url: String) -> Channel {
    let name = "hook".parse().unwrap();
    Channel { name, least: Severity::Info, private: false, way: Way::Hook { url } }
}

#[tokio::test]
async fn a_hook_gets_json_that_its_secret_proves() {
    let (port, taken) = hook_server(&[500, 302, 200]).await;
    let channel = hook(format!("http://127.0.0.1:{port}/hook?of=panel"));
    let secret = || Some(SecretSlice::from(b"key".to_vec()));
    let sent = async || send(&channel, secret(), &words(&notice()), Reach::anywhere()).await;
    let failed = sent().await;
    assert!(matches!(&failed, Err(Error::Status(status)) if status.as_u16() == 500), "{failed:?}");
    let led = sent().await;
    assert!(matches!(&led, Err(Error::Status(status)) if status.as_u16() == 302), "{led:?}");
    sent().await.unwrap();
    let taken = taken.lock().unwrap().pop().unwrap();
    let (head, body) = taken.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook?of=panel HTTP/1.1\r\n"), "{head}");
    let signed =
        head.lines().find_map(|line| line.strip_prefix("x-clusterducks-signature: sha256="));
    assert_eq!(signed.unwrap(), signature(b"key", 1_700_000_000, body.as_bytes()));
    assert!(head.contains("x-clusterducks-time: 1700000000"), "{head}");
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["began"][0]["cause"], "silent");
    assert_eq!(json["began"][0]["link"], "https://panel/servers/1");
}

/// The figures are Python's: `hmac.new(b"key", b"1700000000." + b"{}", "sha256").hexdigest()`.
#[test]
fn a_signature_is_what_others_compute() {
    let expected = "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
    assert_eq!(signature(b"key", 1_700_000_000, b"{}"), expected);
    assert_ne!(signature(b"key", 1_700_000_001, b"{}"), expected);
    assert_ne!(signature(b"other", 1_700_000_000, b"{}"), expected);
}

#[tokio::test]
async fn a_channel_is_no_way_to_the_box() {
    let (port, taken) = hook_server(&[200]).await;
    for url in [format!("http://127.0.0.1:{port}/"), format!("http://localhost:{port}/")] {
        let refused = send(&hook(url), None, &words(&notice()), Reach::new(true)).await;
        assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
    }
    let (port, mails) = mail_server("refused@").await;
    let channel = mail(port, &["a@example.org"]);
    let refused = send(&channel, None, &words(&notice()), Reach::new(true)).await;
    assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
    assert!(taken.lock().unwrap().is_empty() && mails.lock().unwrap().is_empty());
    let odd = hook("file:///etc/passwd".into());
    let odd = send(&odd, None, &words(&notice()), Reach::new(true)).await;
    assert!(matches!(odd, Err(Error::Url)), "{odd:?}");
}

#[test]
fn many_alerts_are_one_notice() {
    let began = vec![alert(1, Cause::BackupNever), alert(2, Cause::NeverJoined)];
    let ended = vec![alert(3, Cause::BackupNever)];
    let words = words(&Notice { began, ended, trial: false });
    assert_eq!(words.subject, "2 alerts began and 1 ended, the worst critical");
    assert_eq!(words.text.matches("https://panel/").count(), 3);
    let one = Notice { ended: vec![alert(3, Cause::NeverJoined)], ..Notice::default() };
    let one = super::words::Words::new(1, &one, 0, |_| String::new());
    assert_eq!(one.subject, "ended: critical: agent-3 of north: no box has joined as this server");
}
