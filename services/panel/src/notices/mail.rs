//! Notices by mail.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};

use super::{Error, Mail, Reach, Security, Words};
use crate::secret::{ExposeSecret as _, SecretString};

/// How long each answer of the server may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How long all of it may take.
const ALL: Duration = Duration::from_secs(60);

fn mailbox(address: &str) -> Result<Mailbox, Error> {
    let parsed = address.parse();
    parsed.map_err(|source| Error::Address { address: address.to_owned(), source })
}

/// The letter.
pub(super) fn letter(mail: &Mail, words: &Words) -> Result<Message, Error> {
    // A subject is one line, whatever a server says of its failures.
    let subject: String =
        words.subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(150).collect();
    let mut letter = Message::builder()
        .from(mailbox(&mail.from)?)
        .subject(format!("[clusterducks] {subject}"))
        .header(ContentType::TEXT_PLAIN);
    for address in &mail.to {
        letter = letter.to(mailbox(address)?);
    }
    letter.body(words.text.clone()).map_err(Error::Letter)
}

/// Sends a mail to all; that one of them is refused is a failure of the whole.
pub(super) async fn send(
    mail: &Mail,
    password: Option<SecretString>,
    words: &Words,
    reach: Reach,
) -> Result<(), Error> {
    let letter = letter(mail, words)?;
    // The address is looked up here, so that it is the one that the rule was held to; the certificate is still the name's.
    let addresses = reach.find(&mail.host, mail.port).await?;
    let parameters = || TlsParameters::new(mail.host.clone()).map_err(Error::Smtp);
    let mut last = None;
    for address in addresses {
        let security = match mail.security {
            Security::Tls => Tls::Wrapper(parameters()?),
            Security::Starttls => Tls::Required(parameters()?),
            Security::None => Tls::None,
        };
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
                .port(mail.port)
                .tls(security)
                .timeout(Some(ANSWER));
        if let (Some(user), Some(password)) = (&mail.user, &password) {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            transport = transport.credentials(credentials);
        }
        let sent = tokio::time::timeout(ALL, transport.build().send(letter.clone())).await;
        match sent {
            Ok(Ok(_taken)) => return Ok(()),
            // What it said is said; another address of the same server says the same.
            Ok(Err(error)) if error.status().is_some() => return Err(Error::Smtp(error)),
            Ok(Err(error)) => last = Some(Error::Smtp(error)),
            Err(_) => last = Some(Error::TimedOut(ALL.as_secs())),
        }
    }
    Err(last.unwrap_or(Error::TimedOut(ALL.as_secs())))
}
