//! Light or dark, kept in a cookie: whoever is not signed in has a taste too.

use axum::response::IntoResponse as _;
use axum_extra::extract::{CookieJar, cookie::Cookie};

use crate::{
    fields::Fields,
    frame::{Theme, go},
    guard::THEME,
    pages::sign_in::own_path,
};

/// Keeps the choice and goes back.
pub async fn choose(jar: CookieJar, fields: Fields) -> axum::response::Response {
    let theme = Theme::parse(fields.get("theme"));
    let cookie = Cookie::build((THEME, theme.word()))
        .path("/")
        .secure(true)
        .same_site(axum_extra::extract::cookie::SameSite::Lax)
        .permanent();
    (jar.add(cookie), go(own_path(fields.get("back")))).into_response()
}
