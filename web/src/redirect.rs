//! What is served over plain HTTP: the way to HTTPS, and nothing else.

use axum::{
    Router,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};

/// Leads to the HTTPS of this port.
pub(crate) fn router(port: u16) -> Router {
    Router::new().fallback(move |uri: Uri, headers: axum::http::HeaderMap| async move {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        lead(host, &uri, port).unwrap_or_else(|| StatusCode::BAD_REQUEST.into_response())
    })
}

fn lead(host: Option<&str>, uri: &Uri, port: u16) -> Option<Response> {
    // Of `[::1]:80` and `panel.local:80` the port goes.
    let host = host?;
    let name = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon)?,
        _ => host,
    };
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = HeaderValue::from_str(&format!("https://{name}{port}{path}")).ok()?;
    Some((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_to_the_same_page_over_https() {
        let to = |host, path: &'static str, port| {
            let response = lead(Some(host), &Uri::from_static(path), port).unwrap();
            response.headers()[header::LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!(to("panel.local", "/networks?q=a", 443), "https://panel.local/networks?q=a");
        assert_eq!(to("panel.local:80", "/", 8443), "https://panel.local:8443/");
        assert_eq!(to("[fe80::1]:80", "/", 443), "https://[fe80::1]/");
        assert_eq!(to("[fe80::1]", "/", 443), "https://[fe80::1]/");
        assert!(lead(None, &Uri::from_static("/"), 443).is_none());
    }
}
