//! Texts of the panel alone, checked once where they come in.

use std::{borrow::Cow, fmt, str::FromStr};

use model::{code::Host, name::ServerName};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Why a text can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not what a user signs in with.
    #[error("use 1 to 64 of a-z, 0-9, ., _, @ and -, beginning with a letter or digit")]
    User,
    /// Not a line for people.
    #[error("use 1 to 80 printable characters, with none of them a space at either end")]
    Title,
    /// Neither a DNS name nor an address.
    #[error("give a host name or an address, without a port")]
    Host,
    /// Not a label of RFC 1123.
    #[error("use 1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -")]
    Label,
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $check:expr, $pattern:expr, $error:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }

        impl $name {
            /// The text, as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err($error) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

const LABEL: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

fn is_label(text: &str) -> bool {
    text.parse::<model::name::DeviceName>().is_ok()
}

checked_text!(
    /// A tunnel's name.
    TunnelName, is_label, LABEL, Error::Label);
checked_text!(
    /// The name of a wire that several subnets may share.
    LanName, is_label, LABEL, Error::Label);
checked_text!(
    /// Where something is reached: a DNS name, or an address without brackets.
    HostName, |text| Host::try_from(text.to_owned()).is_ok(), "^[A-Za-z0-9._:-]{1,253}$", Error::Host);

impl TunnelName {
    /// The same as certificates have it.
    pub fn server_name(&self) -> ServerName {
        self.0.parse().expect("both are labels of RFC 1123")
    }
}

impl HostName {
    /// The same as certificates and codes have it.
    pub fn host(&self) -> Host {
        Host::try_from(self.0.clone()).expect("it was parsed so")
    }
}

checked_text!(
    /// What a user signs in with.
    UserName, |text| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._@-".contains(&b);
        (1..=64).contains(&text.len())
            && text.bytes().all(inner)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    }, "^[a-z0-9][a-z0-9._@-]{0,63}$", Error::User);
checked_text!(
    /// A line for people.
    Title, |text| {
        (1..=80).contains(&text.chars().count())
            && text.trim() == text
            && !text.chars().any(char::is_control)
    }, r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]{0,78}[^\s\x00-\x1f\x7f-\x9f])?$", Error::Title);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_plain_and_a_title_is_what_people_write() {
        for good in ["ada", "ada.lovelace@example.org", "0x"] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        for bad in ["", "Ada", ".ada", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(bad.parse::<UserName>(), Err(Error::User), "{bad}");
        }
        for good in ["relay.example.org", "192.0.2.7", "2001:db8::7", "relay"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in ["", "relay:22", "[2001:db8::7]", "a..b", "-a", "a b", "https://relay"] {
            assert_eq!(bad.parse::<HostName>(), Err(Error::Host), "{bad}");
        }
        assert!("Schule am Bühl (Süd)".parse::<Title>().is_ok());
        for bad in ["", " ", "a\n", " a", &"x".repeat(81)] {
            assert_eq!(bad.parse::<Title>(), Err(Error::Title), "{bad}");
        }
    }
}
