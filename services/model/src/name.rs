//! Validated names: parsed once at the edge, then never a bare `String`. A value of these types is safe to put into a
//! dataset path, an IQN, a host name, a URL path segment and a log line without any quoting. A copy of a name shares its text:
//! plans and pictures of thousands of devices are made of names.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a label of RFC 1123: 1 to 63 of `a-z`, `0-9`, `-`, neither first nor last a `-`.
    #[error(
        "{0:?} is not a name: use 1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -"
    )]
    Label(String),
    /// Not six octets in hexadecimal.
    #[error("{0:?} is not a MAC address: write it as 52:54:00:12:34:56")]
    Mac(String),
    /// A group address, or all zeros: no device has it as its own.
    #[error("{0} is not the address of one machine")]
    MacNotUnicast(Mac),
    /// zpool(8) refuses this name for a pool.
    #[error(
        "{0:?} can't be a pool's name: begin with a letter, use a-z, 0-9, - and _, and none of ZFS's own words (mirror, raidz, draid, spare, log, cache)"
    )]
    Pool(String),
    /// Not a path of ZFS names.
    #[error("{0:?} is not the path of a dataset")]
    Dataset(String),
    /// Not an iSCSI qualified name (RFC 3720, 3.2.6.3.1).
    #[error("{0:?} is not an iSCSI qualified name")]
    Iqn(String),
    /// Not the wanted number of hexadecimal digits.
    #[error("{0:?} is not {1} hexadecimal digits in lower case")]
    Hex(String, usize),
    /// Not `<kind>:<name>`.
    #[error("{0:?} is not a mark of the form kind:name")]
    Mark(String),
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr, $pattern:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
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
                let check: fn(&str) -> Result<(), Error> = $check;
                check(text).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
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

fn check_label(text: &str) -> Result<(), Error> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fine = (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fine { Ok(()) } else { Err(Error::Label(text.to_owned())) }
}

text_type!(
    /// A device's name; it is also its host name (RFC 1123, 2.1).
    DeviceName, check_label, LABEL);
text_type!(
    /// A network's name.
    NetworkName, check_label, LABEL);
text_type!(
    /// A volume's name.
    VolumeName, check_label, LABEL);
text_type!(
    /// A group's name.
    GroupName, check_label, LABEL);
text_type!(
    /// A vDisk's name.
    VdiskName, check_label, LABEL);
text_type!(
    /// A menu's name.
    MenuName, check_label, LABEL);
text_type!(
    /// A server's name; it is also its host name.
    ServerName, check_label, LABEL);
text_type!(
    /// A ZFS pool's name, as zpool-create(8) takes it, without the characters that would need quoting.
    PoolName, |text| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let reserved = ["mirror", "raidz", "draid", "spare", "log", "cache"];
        let fine = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(inner)
            && !reserved.iter().any(|word| text.starts_with(word));
        if fine { Ok(()) } else { Err(Error::Pool(text.to_owned())) }
    }, "^[a-z][a-z0-9_-]{0,63}$");
text_type!(
    /// The path of a ZFS dataset, without a snapshot. zfs(8): at most 255 bytes.
    Dataset, |text| {
        let part = |p: &str| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.: ".contains(&b))
        };
        let fine = text.len() <= 255 && text.split('/').all(part);
        if fine { Ok(()) } else { Err(Error::Dataset(text.to_owned())) }
    }, "^[^@#]+$");
text_type!(
    /// An iSCSI qualified name (RFC 3720, 3.2.6.3.1): at most 223 bytes.
    Iqn, |text| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
        let fine = text.len() <= 223 && text.starts_with("iqn.") && text.bytes().all(inner);
        if fine { Ok(()) } else { Err(Error::Iqn(text.to_owned())) }
    }, "^iqn\\.[a-z0-9.:-]+$");
text_type!(
    /// The number of one boot of one device: 16 random bytes in hexadecimal.
    BootId, |text| check_hex(text, 32), "^[0-9a-f]{32}$");
text_type!(
    /// A SHA-256 digest in hexadecimal.
    Sha256, |text| check_hex(text, 64), "^[0-9a-f]{64}$");

fn check_hex(text: &str, digits: usize) -> Result<(), Error> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == digits && text.bytes().all(digit) {
        Ok(())
    } else {
        Err(Error::Hex(text.to_owned(), digits))
    }
}

/// What every IQN of ours begins with; a target without it is not ours and is never touched.
pub const IQN_PREFIX: &str = "iqn.2026-01.org.clusterducks:";

impl Iqn {
    /// The target of a group's generation.
    pub fn generation(group: &GroupName, generation: u32) -> Self {
        Self(format!("{IQN_PREFIX}generation.{group}.g{generation}").into())
    }

    /// The target of a device's own clone.
    pub fn device(device: &DeviceName) -> Self {
        Self(format!("{IQN_PREFIX}device.{device}").into())
    }

    /// The target of a vDisk.
    pub fn vdisk(vdisk: &VdiskName) -> Self {
        Self(format!("{IQN_PREFIX}vdisk.{vdisk}").into())
    }

    /// The initiator name that a device logs in with.
    pub fn initiator(device: &DeviceName) -> Self {
        Self(format!("{IQN_PREFIX}initiator.{device}").into())
    }

    /// Whether the name carries our prefix.
    pub fn is_ours(&self) -> bool {
        self.0.starts_with(IQN_PREFIX)
    }
}

impl Dataset {
    /// The dataset one level below this one.
    pub fn child(&self, name: impl fmt::Display) -> Self {
        Self(format!("{}/{name}", self.0).into())
    }

    /// The dataset above this one, unless this is a pool's root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(above, _)| Self(above.into()))
    }

    /// The pool that the dataset lies in.
    pub fn pool(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// The device node of a zvol; udev makes it (zvol rules of OpenZFS).
    pub fn device_path(&self) -> String {
        format!("/dev/zvol/{}", self.0)
    }
}

impl From<&PoolName> for Dataset {
    fn from(pool: &PoolName) -> Self {
        Self(Arc::clone(&pool.0))
    }
}

/// One snapshot of one dataset.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Snapshot {
    /// What it is a snapshot of.
    pub dataset: Dataset,
    /// The part behind the `@`.
    pub tag: String,
}

impl Snapshot {
    /// Names the snapshot `dataset@tag`; the tag is one of the product's own (`g1`, `p1`, `clean`).
    pub fn new(dataset: Dataset, tag: impl fmt::Display) -> Self {
        Self { dataset, tag: tag.to_string() }
    }

    /// The device node of a zvol's snapshot; it exists while the zvol has `snapdev=visible` (zfsprops(7)).
    pub fn device_path(&self) -> String {
        format!("/dev/zvol/{self}")
    }
}

impl FromStr for Snapshot {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Dataset(text.to_owned());
        let (dataset, tag) = text.split_once('@').ok_or_else(bad)?;
        if tag.is_empty()
            || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.: ".contains(&b))
        {
            return Err(bad());
        }
        Ok(Self { dataset: dataset.parse()?, tag: tag.to_owned() })
    }
}

impl TryFrom<String> for Snapshot {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Snapshot> for String {
    fn from(snapshot: Snapshot) -> String {
        snapshot.to_string()
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.dataset, self.tag)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Six pairs of digits, all separated alike; the lowest bit of the first says that it is no multicast.
const MAC: &str =
    "^[0-9A-Fa-f][02468ACEace]((:[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{10})$";

/// The address of a network card: unicast, not all zeros. Written with colons, read with colons, hyphens or neither.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = MAC))]
pub struct Mac([u8; 6]);

impl Mac {
    /// The six octets.
    pub fn octets(&self) -> [u8; 6] {
        self.0
    }

    /// With hyphens, as iPXE's `hexhyp` writes it.
    pub fn hyphens(&self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl FromStr for Mac {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Mac(text.to_owned());
        let digits: Vec<u8> = match text.len() {
            17 => {
                let separator = text
                    .as_bytes()
                    .get(2)
                    .copied()
                    .filter(|b| b":-".contains(b))
                    .ok_or_else(bad)?;
                let bytes = text.as_bytes().chunks(3);
                if !bytes.clone().all(|c| c.get(2).is_none_or(|b| *b == separator)) {
                    return Err(bad());
                }
                bytes.flat_map(|c| c.iter().take(2).copied()).collect()
            }
            12 => text.bytes().collect(),
            _ => return Err(bad()),
        };
        let mut octets = [0; 6];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        let mac = Self(octets);
        let [first, ..] = octets;
        if first & 1 == 1 || octets == [0; 6] { Err(Error::MacNotUnicast(mac)) } else { Ok(mac) }
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a dataset of ours is: the value of the user property `org.clusterducks:id`, as `kind:name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Mark {
    /// A folder of the storage tree: `clusterducks`, `volumes`, `groups`, `devices`, `vdisks`, `files`.
    Tree(String),
    /// A volume.
    Volume(VolumeName),
    /// A group.
    Group(GroupName),
    /// A device's clone.
    Device(DeviceName),
    /// A vDisk.
    Vdisk(VdiskName),
}

impl FromStr for Mark {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Mark(text.to_owned());
        let (kind, name) = text.split_once(':').ok_or_else(bad)?;
        Ok(match kind {
            "tree" => {
                check_label(name)?;
                Self::Tree(name.to_owned())
            }
            "volume" => Self::Volume(name.parse()?),
            "group" => Self::Group(name.parse()?),
            "device" => Self::Device(name.parse()?),
            "vdisk" => Self::Vdisk(name.parse()?),
            _ => return Err(bad()),
        })
    }
}

impl TryFrom<String> for Mark {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> String {
        mark.to_string()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(name) => write!(f, "tree:{name}"),
            Self::Volume(name) => write!(f, "volume:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Device(name) => write!(f, "device:{name}"),
            Self::Vdisk(name) => write!(f, "vdisk:{name}"),
        }
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_with_colons_hyphens_or_neither_and_written_with_colons() {
        for text in ["52:54:00:AB:cd:01", "52-54-00-ab-cd-01", "525400abcd01"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "52:54:00:ab:cd:01");
        }
    }

    #[test]
    fn a_mac_with_mixed_separators_signs_or_a_group_bit_is_refused() {
        for text in
            ["52:54-00:ab:cd:01", "+2:54:00:ab:cd:01", "52:54:00:ab:cd", "", "5é:54:00:ab:cd:0"]
        {
            assert!(matches!(text.parse::<Mac>(), Err(Error::Mac(_))), "{text}");
        }
        assert!(matches!("01:00:5e:00:00:01".parse::<Mac>(), Err(Error::MacNotUnicast(_))));
        assert!(matches!("00:00:00:00:00:00".parse::<Mac>(), Err(Error::MacNotUnicast(_))));
    }

    #[test]
    fn a_name_is_an_rfc_1123_label_in_lower_case() {
        for good in ["a", "pc-01", "0", &"x".repeat(63)] {
            assert!(good.parse::<DeviceName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "PC", "a.b", "a b", "a/b", "a\n", &"x".repeat(64)] {
            assert_eq!(bad.parse::<DeviceName>(), Err(Error::Label(bad.to_owned())));
        }
    }

    #[test]
    fn a_pool_can_not_take_a_word_of_zfs() {
        assert!("tank".parse::<PoolName>().is_ok());
        for bad in ["mirror1", "raidz", "1tank", "log", "a b"] {
            assert_eq!(bad.parse::<PoolName>(), Err(Error::Pool(bad.to_owned())));
        }
    }

    #[test]
    fn a_mark_is_read_back_as_it_was_written() {
        for text in
            ["tree:clusterducks", "volume:debian", "group:lab", "device:pc-01", "vdisk:home"]
        {
            assert_eq!(text.parse::<Mark>().unwrap().to_string(), text);
        }
        assert!(matches!("other:x".parse::<Mark>(), Err(Error::Mark(_))));
    }
}
