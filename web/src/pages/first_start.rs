//! The first start: whoever can read the box's log or screen becomes the first admin.

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use axum_extra::extract::CookieJar;
use panel::{
    access::Standing,
    noun::User,
    password::judge,
    secret::{ExposeSecret as _, SecretString},
    store::FieldError,
};

use crate::{
    app::App,
    fields::{Fields, Reader},
    frame::{Frame, go, page},
    guard::Peer,
    pages::{form::FormView, sign_in},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "first-start.html")]
struct FirstStart {
    frame: Frame,
    form: FormView,
}

/// The form.
///
/// # Errors
/// The store failed.
pub async fn show(State(app): State<App>, frame: Frame) -> Result<Response, Problem> {
    if !app.is_new().await? {
        return Ok(go("/"));
    }
    page(StatusCode::OK, &FirstStart { frame, form: FormView::default() })
}

/// Makes the first admin and signs them in.
///
/// # Errors
/// The store failed.
pub async fn enter(
    State(app): State<App>,
    frame: Frame,
    peer: Peer,
    headers: HeaderMap,
    jar: CookieJar,
    fields: Fields,
) -> Result<Response, Problem> {
    if !app.is_new().await? {
        return Ok(go("/sign-in"));
    }
    let again = |fields: &Fields, faults, status| {
        let form = FormView::faulty(without_secrets(fields), faults);
        page(status, &FirstStart { frame: frame.clone(), form })
    };
    let (user, password) = match read(&fields) {
        Ok(read) => read,
        Err(faults) => return again(&fields, faults, StatusCode::UNPROCESSABLE_ENTITY),
    };
    let Some(_turn) = app.first_turn() else {
        let fault = FieldError::new("code", "somebody restores a backup at this moment");
        return again(&fields, vec![fault], StatusCode::CONFLICT);
    };
    // Last, so that a weak password costs no try.
    match app.is_first_start_code(fields.get("code")) {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(from = %peer.0, "a wrong code at the first start");
            let fault = FieldError::new("code", "this is not the code that the panel shows");
            return again(&fields, vec![fault], StatusCode::UNPROCESSABLE_ENTITY);
        }
        Err(wait) => {
            let fault = FieldError::new("code", wait.to_string());
            return again(&fields, vec![fault], StatusCode::TOO_MANY_REQUESTS);
        }
    }
    let hash = app.hash(move |passwords| passwords.hash(&password)).await?;
    let made = app.change(move |panel| panel.make_first(&user, hash.expose_secret())).await;
    let made = match made {
        Ok(Some(made)) => made,
        Ok(None) => return Ok(go("/sign-in")),
        Err(Problem::Invalid(faults)) => {
            return again(&fields, faults, StatusCode::UNPROCESSABLE_ENTITY);
        }
        Err(problem) => return Err(problem),
    };
    tracing::info!(name = %made.value.name, "the first admin signed up");
    let jar = sign_in::begin(&app, made.id, peer, &headers, jar).await?;
    Ok((jar, go("/")).into_response())
}

fn read(fields: &Fields) -> Result<(User, SecretString), Vec<FieldError>> {
    let mut form = Reader::new(fields);
    let name = form.required("name");
    let full_name = form.required("full_name");
    let mail = form.optional("mail");
    let about = [fields.get("name"), fields.get("full_name"), fields.get("mail")];
    let password = new_password(&mut form, "password", "again", &about);
    let user = (|| {
        Some(User {
            name: name?,
            full_name: full_name?,
            mail: mail?,
            standing: Standing::Superadmin,
            disabled: false,
            roles: Vec::new(),
        })
    })();
    form.finish(user.zip(password))
}

/// Reads a new password and the same once more, and judges it.
pub fn new_password(
    form: &mut Reader<'_>,
    field: &str,
    again: &str,
    about: &[&str],
) -> Option<SecretString> {
    let (text, repeated) = (form.fields().raw(field), form.fields().raw(again));
    let password = SecretString::from(text);
    if text.len() > panel::password::MAX_BYTES {
        return form.fault(field, panel::password::Error::TooLong);
    }
    if let Err(weak) = judge(&password, about) {
        let advice = weak.warning.iter().chain(&weak.suggestions);
        let advice = advice.map(|text| format!(" {text}")).collect::<String>();
        return form.fault(field, format!("{weak}.{advice}"));
    }
    if text != repeated {
        return form.fault(again, "this is not the same password");
    }
    Some(password)
}

/// A password never comes back in a page.
fn without_secrets(fields: &Fields) -> Fields {
    let mut shown = Fields::default();
    for name in ["name", "full_name", "mail", "code"] {
        shown.put(name, fields.get(name));
    }
    shown
}
