//! Style sheets and scripts, embedded in the binary under names that carry their digest: a browser keeps them for a year, and a
//! new version has another name. Nothing comes from elsewhere.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::{Embed, EmbeddedFile};

use crate::problem::Problem;

#[derive(Embed)]
#[folder = "static/"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "*.svg"]
struct Files;

/// The last part of a path of `static/`, and its path with the digest.
static URLS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let named = |path: Cow<'static, str>| {
        let digest = Files::get(&path)?.metadata.sha256_hash();
        let file = path.rsplit('/').next()?.to_owned();
        let (stem, kind) = file.split_once('.')?;
        let short = hex::encode(digest.get(..8)?);
        Some((file.clone(), format!("/static/{stem}.{short}.{kind}")))
    };
    Files::iter().filter_map(named).collect()
});

static FILES: LazyLock<HashMap<String, EmbeddedFile>> = LazyLock::new(|| {
    let served = |path: Cow<'static, str>| {
        let file = path.rsplit('/').next()?;
        let url = URLS.get(file)?;
        Some((url.trim_start_matches("/static/").to_owned(), Files::get(&path)?))
    };
    Files::iter().filter_map(served).collect()
});

/// Where a file of `static/` is served, by its name.
pub(crate) fn url(file: &str) -> &'static str {
    URLS.get(file).map(String::as_str).unwrap_or_default()
}

/// Serves one.
///
/// # Errors
/// There is none of this name and digest.
pub(crate) async fn serve(Path(name): Path<String>) -> Result<Response, Problem> {
    let file = FILES.get(&name).ok_or(Problem::NotFound)?;
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(Problem::NotFound),
    };
    let bytes = match &file.data {
        Cow::Borrowed(bytes) => axum::body::Body::from(*bytes),
        Cow::Owned(bytes) => axum::body::Body::from(bytes.clone()),
    };
    let year = HeaderValue::from_static("public, max-age=31536000, immutable");
    let kind = HeaderValue::from_static(kind);
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, year)], bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_file_has_a_name_with_its_digest() {
        for file in ["app.css", "app.js", "icon.svg", "htmx.min.js", "pico.min.css"] {
            let url = url(file);
            let (stem, _) = file.split_once('.').unwrap();
            assert!(url.starts_with(&format!("/static/{stem}.")), "{file}: {url}");
            assert!(FILES.contains_key(url.trim_start_matches("/static/")));
        }
        assert_eq!(url("nothing.css"), "");
    }

    #[test]
    fn third_party_files_are_those_that_the_record_names() {
        let vendor = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/static/vendor"));
        let record = fs::read_to_string(vendor.join("VERSIONS.txt")).unwrap();
        let mut named = BTreeSet::new();
        for line in record.lines().filter(|line| !line.starts_with('#')) {
            let [file, _package, _version, _licence, sha256] =
                line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
            let bytes = fs::read(vendor.join(file)).unwrap();
            assert_eq!(hex::encode(Sha256::digest(bytes)), sha256, "{file}");
            let folder = Path::new(file).parent().unwrap();
            assert!(vendor.join(folder).join("LICENSE").exists(), "{file} has no licence");
            named.insert(vendor.join(file));
        }
        for folder in fs::read_dir(vendor).unwrap().map(|entry| entry.unwrap().path()) {
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let known = file.ends_with("LICENSE") || named.contains(&file);
                assert!(known, "{} is not in VERSIONS.txt", file.display());
            }
        }
    }
}
