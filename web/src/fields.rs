//! What a form sent, and reading it into what it means: every field is parsed, and every fault is told, not the first alone. The
//! names of the fields are those by which the operations tell faults, `pools[0].disks` for example.

use std::{fmt::Display, str::FromStr};

use panel::store::FieldError;
use serde::de::DeserializeOwned;

/// The fields of a form, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Takes pairs of names and values.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// Adds a field.
    pub fn put(&mut self, name: impl Into<String>, value: impl Display) {
        self.0.push((name.into(), value.to_string()));
    }

    /// Adds a field if there is something to say.
    pub fn put_some(&mut self, name: impl Into<String>, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Adds a box that is ticked.
    pub fn tick(&mut self, name: impl Into<String>, ticked: bool) {
        if ticked {
            self.put(name, "on");
        }
    }

    /// A field's first value, without spaces around it; empty when it did not come.
    pub fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.trim())
    }

    /// A field's first value as it came; empty when it did not come.
    pub fn raw(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Whether it came with anything in it.
    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// The names that came, without those of the form itself.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let own = ["csrf", "version", "preview", "more"];
        self.0.iter().map(|(name, _)| name.as_str()).filter(move |name| !own.contains(name))
    }

    /// How many rows `name[0].…`, `name[1].…` came with something in them.
    pub fn rows(&self, name: &str) -> usize {
        let number = |field: &str| -> Option<usize> {
            let (number, _) = field.strip_prefix(name)?.strip_prefix('[')?.split_once(']')?;
            number.parse().ok()
        };
        let filled = self.0.iter().filter(|(_, value)| !value.trim().is_empty());
        filled
            .filter_map(|(field, _)| number(field))
            .max()
            .map_or(0, |last| last + 1)
            .min(MOST_ROWS)
    }
}

/// The most rows of a field that has rows.
const MOST_ROWS: usize = 64;

/// Reads fields and collects faults.
#[derive(Debug)]
pub struct Reader<'a> {
    fields: &'a Fields,
    faults: Vec<FieldError>,
}

impl<'a> Reader<'a> {
    /// Reads these.
    pub fn new(fields: &'a Fields) -> Self {
        Self { fields, faults: Vec::new() }
    }

    /// The fields.
    pub fn fields(&self) -> &'a Fields {
        self.fields
    }

    /// Notes a fault.
    pub fn fault<T>(&mut self, name: &str, message: impl Display) -> Option<T> {
        self.faults.push(FieldError::new(name, message.to_string()));
        None
    }

    /// A field that has to be there.
    pub fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        match self.fields.get(name) {
            "" => self.fault(name, "fill this in"),
            text => self.parsed(name, text),
        }
    }

    /// A field that may be empty.
    pub fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<Option<T>> {
        match self.fields.get(name) {
            "" => Some(None),
            text => self.parsed(name, text).map(Some),
        }
    }

    /// A field with several values, separated by spaces, commas or lines.
    pub fn list<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<Vec<T>> {
        let separators = |c: char| c.is_whitespace() || c == ',' || c == ';';
        let values = self.fields.all(name).flat_map(|text| text.split(separators));
        let parts: Vec<_> = values.filter(|part| !part.is_empty()).collect();
        parts.into_iter().map(|part| self.parsed(name, part)).collect()
    }

    /// One of the words of a type.
    pub fn word<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let word = self.fields.get(name).to_owned();
        match serde_json::from_value(serde_json::Value::String(word)) {
            Ok(value) => Some(value),
            Err(_) => self.fault(name, "choose one"),
        }
    }

    /// Whether a box is ticked.
    pub fn ticked(&self, name: &str) -> bool {
        self.fields.has(name)
    }

    /// A size in bytes, with a binary unit: `20 GiB`.
    pub fn size(&mut self, name: &str) -> Option<u64> {
        match parse_size(self.fields.get(name)) {
            Some(size_bytes) => Some(size_bytes),
            None => self.fault(name, "give a size with its unit, for example 20 GiB"),
        }
    }

    /// What was read, if nothing was wrong.
    ///
    /// # Errors
    /// The faults.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(self.faults),
        }
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => self.fault(name, error),
        }
    }
}

const UNITS: [(&str, u64); 6] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("bytes", 1),
    ("B", 1),
];

/// Reads a size: a number, with a point if need be, and a binary unit; `20 G` and `20 GB` are taken for what people mean by them.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.trim_end_matches("ib").trim_end_matches("ytes").trim_end_matches('b');
    let (_, factor) = UNITS.iter().find(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.trim_end_matches("ib").trim_end_matches("ytes").trim_end_matches('b') == unit
    })?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let digits = u32::try_from(part.len()).ok().filter(|digits| *digits <= 9)?;
    let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let part = part.checked_mul(*factor)? / 10_u64.checked_pow(digits)?;
    whole.checked_mul(*factor)?.checked_add(part)
}

/// Writes a size exactly, in the largest unit that needs no fraction: what [`parse_size`] reads back.
pub fn render_size(size_bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| size_bytes.is_multiple_of(*factor);
    match UNITS.iter().find(fits) {
        Some((unit, factor)) if size_bytes > 0 => format!("{} {unit}", size_bytes / factor),
        _ => "0 B".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::name::{DeviceName, Mac};

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields::new(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn every_fault_of_a_form_is_told() {
        let fields = fields(&[("name", "Not a name"), ("macs", "52:54:00:00:01:01, zz")]);
        let mut form = Reader::new(&fields);
        let name = form.required::<DeviceName>("name");
        let macs = form.list::<Mac>("macs");
        let address = form.required::<std::net::Ipv4Addr>("address");
        assert!(name.is_none() && macs.is_none() && address.is_none());
        let faults = form.finish(Some(())).unwrap_err();
        let names: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(names, ["name", "macs", "address"]);
    }

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, size) in [
            ("20 GiB", 20 << 30),
            ("20G", 20 << 30),
            ("1.5 GiB", 3 << 29),
            ("512 MB", 512 << 20),
            ("4096", 4096),
            ("7 bytes", 7),
        ] {
            assert_eq!(parse_size(text), Some(size), "{text}");
            assert_eq!(parse_size(&render_size(size)), Some(size));
        }
        for bad in ["", "GiB", "20 XB", "-1 GiB", "99999999999 TiB", "1.2.3 GiB", "1,5 GiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        assert_eq!(render_size(3 << 29), "1536 MiB");
    }

    #[test]
    fn rows_end_with_the_last_one_that_says_something() {
        let form =
            fields(&[("pools[0].name", "a"), ("pools[3].name", "b"), ("pools[9].name", " ")]);
        assert_eq!((form.rows("pools"), form.rows("pool"), form.rows("x")), (4, 0, 0));
        assert_eq!(fields(&[("pools[999999].name", "a")]).rows("pools"), MOST_ROWS);
    }
}
