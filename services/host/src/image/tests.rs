//! `qemu-img` and `curl` are the real ones; the HTTP server is a few lines that can be told to misbehave.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

async fn qemu(args: &[&str]) {
    Cmd::new(Program::QemuImg).args(args).run().await.unwrap();
}

#[tokio::test]
async fn a_plain_image_tells_its_size_and_one_on_a_backing_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (plain, top, split) = (path("plain"), path("top"), path("split"));
    qemu(&["create", "-q", "-f", "qcow2", &plain, "5M"]).await;
    assert_eq!(check(Path::new(&plain), ImageFormat::Qcow2).await.unwrap(), 5 << 20);
    qemu(&["create", "-q", "-f", "qcow2", "-b", &plain, "-F", "qcow2", &top]).await;
    let error = check(Path::new(&top), ImageFormat::Qcow2).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused { reason: "stands on a backing file", .. }),
        "{error:?}"
    );
    let data = format!("data_file={}", path("data"));
    qemu(&["create", "-q", "-f", "qcow2", "-o", &data, &split, "5M"]).await;
    let error = check(Path::new(&split), ImageFormat::Qcow2).await.unwrap_err();
    let by_us = matches!(error, Error::Refused { reason: "keeps its data in another file", .. });
    // Inside the sandbox qemu-img can't even open the other file, and says so.
    let by_qemu = matches!(error, Error::Command(cmd::Error::Status { .. }));
    assert!(by_us || by_qemu, "{error:?}");
}

#[tokio::test]
async fn a_qcow2_that_calls_itself_raw_is_only_its_own_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    qemu(&["create", "-q", "-f", "qcow2", path.to_str().unwrap(), "5M"]).await;
    let length = std::fs::metadata(&path).unwrap().len().next_multiple_of(512);
    assert_eq!(check(&path, ImageFormat::Raw).await.unwrap(), length);
}

#[test]
fn progress_is_read_from_qemu_imgs_lines() {
    assert_eq!(parse_share("    (12.50/100%)"), Some(0.125));
    assert_eq!(parse_share("    (100.00/100%)"), Some(1.0));
    assert_eq!(parse_share(""), None);
}

/// What the server does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Serves ranges, and closes each connection after so many bytes of content.
    CutsAfter(usize),
    /// Serves ranges.
    Ranges,
    /// Takes no notice of ranges.
    NoRanges,
    /// 404.
    Nothing,
}

struct Server {
    url: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(content: Vec<u8>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/image", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let requests = log.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let count = socket.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..count]).to_lowercase();
                let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
                let from = range.and_then(|range| range.trim_end_matches('-').parse().ok());
                let head = request.starts_with("head");
                requests
                    .lock()
                    .unwrap()
                    .push(format!("{} {from:?}", if head { "HEAD" } else { "GET" }));
                let answer = answer(&content, manner, head, from);
                socket.write_all(&answer).await.ok();
                socket.shutdown().await.ok();
            }
        });
        Self { url, log }
    }

    fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn answer(content: &[u8], manner: Manner, head: bool, from: Option<usize>) -> Vec<u8> {
    if manner == Manner::Nothing {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone".to_vec();
    }
    let from = from.filter(|_| manner != Manner::NoRanges);
    let rest = &content[from.unwrap_or(0)..];
    let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", rest.len());
    if let Some(from) = from {
        let last = content.len() - 1;
        answer += &format!("Content-Range: bytes {from}-{last}/{}\r\n", content.len());
    }
    let mut answer = (answer + "\r\n").into_bytes();
    let cut = if let Manner::CutsAfter(bytes) = manner { bytes } else { rest.len() };
    answer.extend(rest.iter().take(if head { 0 } else { cut }));
    answer
}

fn content() -> Vec<u8> {
    (0..1_000_000u32).flat_map(u32::to_le_bytes).collect()
}

async fn fetched(server: &Server, folder: &Path) -> Result<PathBuf, Error> {
    let name = "ab".repeat(32).parse().unwrap();
    fetch::fetch(&fetch::Url { url: &server.url, name: &name }, folder, &|_| ()).await
}

#[tokio::test]
async fn a_fetch_that_is_cut_again_and_again_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(content(), Manner::CutsAfter(1_500_000)).await;
    let path = fetched(&server, folder.path()).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
    let wanted = ["HEAD None", "GET None", "GET Some(1500000)", "GET Some(3000000)"];
    assert_eq!(server.requests(), wanted);
}

#[tokio::test]
async fn what_was_fetched_before_a_restart_is_used_or_begun_again() {
    let part = format!("{}.part", "ab".repeat(32));
    for (manner, last) in [(Manner::Ranges, "GET Some(1000000)"), (Manner::NoRanges, "GET None")] {
        let folder = tempfile::tempdir().unwrap();
        files::write_atomic(&folder.path().join(&part), &content()[..1_000_000], 0o644).unwrap();
        let server = Server::start(content(), manner).await;
        let path = fetched(&server, folder.path()).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), content());
        assert_eq!(server.requests().last().unwrap(), last);
    }
}

#[tokio::test]
async fn an_image_that_became_shorter_is_fetched_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join(format!("{}.part", "ab".repeat(32)));
    files::write_atomic(&part, &[7; 5_000_000], 0o644).unwrap();
    let server = Server::start(content(), Manner::Ranges).await;
    assert_eq!(std::fs::read(fetched(&server, folder.path()).await.unwrap()).unwrap(), content());
    assert_eq!(server.requests(), ["HEAD None", "GET None"]);
}

#[tokio::test]
async fn an_image_that_is_not_served_is_told_with_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(content(), Manner::Nothing).await;
    let error = fetched(&server, folder.path()).await.unwrap_err();
    assert!(matches!(error, Error::NotServed { status: 404, .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_digest_stops_the_import_and_the_fetched_file_goes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(content(), Manner::Ranges).await;
    let job = Import {
        source: Source {
            location: server.url.clone(),
            format: ImageFormat::Raw,
            sha256: "ab".repeat(32).parse().unwrap(),
        },
        folder: folder.path().join("imports"),
        device: folder.path().join("never touched"),
        device_bytes: 1 << 30,
    };
    let error = import(&job, &|_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error:?}");
    assert_eq!(std::fs::read_dir(folder.path().join("imports")).unwrap().count(), 0);
    assert!(!job.device.exists());
}

#[tokio::test]
async fn an_image_that_is_larger_than_the_volume_is_refused_with_both_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    files::write_atomic(&path, &content(), 0o644).unwrap();
    let job = Import {
        source: Source {
            location: path.to_str().unwrap().to_owned(),
            format: ImageFormat::Raw,
            sha256: sha256(&path, |_, _| ()).await.unwrap(),
        },
        folder: folder.path().join("imports"),
        device: folder.path().join("never touched"),
        device_bytes: 1 << 20,
    };
    let error = import(&job, &|_| ()).await.unwrap_err();
    let sizes = (4_000_256, 1 << 20);
    let Error::TooLarge { image_bytes, volume_bytes } = error else { panic!("{error:?}") };
    assert_eq!((image_bytes, volume_bytes), sizes);
    assert!(path.exists() && !job.device.exists());
}
