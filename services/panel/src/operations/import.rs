//! Devices as a spreadsheet. What is exported can be imported: a line whose name is known changes that device, another one makes
//! a device, and a column that is not there leaves alone what it would say. An import is done whole or not at all, and its
//! preview is the import itself, taken back.

use std::{fmt::Display, str::FromStr};

use csv::StringRecord;
use model::desired::{BootMode, OnFailure, VdiskPurpose, VdiskUse};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use super::{Actor, Error, Panel, Work, invalid};
use crate::{
    access::Verb,
    noun::{Device, Id, Network, Noun, Stored, Subnet},
    store::{self, FieldError},
};

/// The columns, in the order in which they are exported. `macs` are separated by spaces; a vDisk is `name` for the upper and
/// `name=/path` for a disk of its own, separated by spaces; an `address` that is empty takes the next free one.
pub const COLUMNS: [&str; 11] = [
    "name",
    "macs",
    "subnet",
    "address",
    "group",
    "boot_mode",
    "test",
    "pinned",
    "menu",
    "vdisks",
    "on_failure",
];

/// What an import does.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Import {
    /// Line by line.
    pub lines: Vec<ImportLine>,
}

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ImportLine {
    /// Its number in the file, counted from 1.
    pub line: u64,
    /// The device's name, as the line has it.
    pub name: String,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A device is made.
    Create,
    /// A device is changed.
    Change,
    /// The device is like this already.
    Same,
    /// It can't be.
    Faulty(Vec<FieldError>),
}

impl Panel {
    /// What an import would do, line by line.
    ///
    /// # Errors
    /// The actor may not; the file is no table of devices.
    pub fn preview_import(
        &self,
        actor: Actor,
        network: Id<Network>,
        text: &str,
    ) -> Result<Import, Error> {
        self.try_out(actor, |work| import(work, network, text))
    }

    /// Imports devices.
    ///
    /// # Errors
    /// The actor may not; the file is no table of devices; a line can't be, and then none is. A fault's field begins with the
    /// line: `line 3: address`.
    pub fn import(&self, actor: Actor, network: Id<Network>, text: &str) -> Result<Import, Error> {
        self.write(actor, |work| {
            let import = import(work, network, text)?;
            let mut faults = Vec::new();
            for ImportLine { line, outcome, .. } in &import.lines {
                if let Outcome::Faulty(of) = outcome {
                    faults.extend(of.iter().map(|fault| {
                        FieldError::new(format!("line {line}: {}", fault.field), &fault.message)
                    }));
                }
            }
            invalid(faults)?;
            Ok(import)
        })
    }

    /// The devices of a network, as [`Panel::import`] reads them.
    ///
    /// # Errors
    /// There is no such network that the actor may see.
    pub fn export(&self, actor: Actor, network: Id<Network>) -> Result<String, Error> {
        self.read(actor, |work| {
            work.allow(Verb::Read, Noun::Device, network.place())?;
            let mut writer = csv::Writer::from_writer(Vec::new());
            let not_text = |error: csv::Error| table(error.to_string());
            writer.write_record(COLUMNS).map_err(not_text)?;
            for device in work.tx.all::<Device>(network.place())? {
                writer.write_record(cells(&device.value)?).map_err(not_text)?;
            }
            let bytes = writer.into_inner().map_err(|error| table(error.error().to_string()))?;
            String::from_utf8(bytes).map_err(|error| table(error.to_string()))
        })
    }
}

fn table(message: impl Into<String>) -> Error {
    Error::Invalid(vec![FieldError::new("file", message)])
}

/// A word of the model, as serde writes it.
fn word(value: impl Serialize) -> Result<String, Error> {
    match serde_json::to_value(value).map_err(store::Error::Json)? {
        serde_json::Value::String(word) => Ok(word),
        other => Ok(other.to_string()),
    }
}

fn joined<T: Display>(parts: impl IntoIterator<Item = T>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(" ")
}

fn cells(device: &Device) -> Result<[String; 11], Error> {
    let vdisks = device.vdisks.iter().map(|used| match &used.purpose {
        VdiskPurpose::Upper => used.vdisk.to_string(),
        VdiskPurpose::Mount { path } => format!("{}={path}", used.vdisk),
    });
    Ok([
        device.name.to_string(),
        joined(&device.macs),
        device.network.to_string(),
        device.address.to_string(),
        device.group.to_string(),
        word(device.boot_mode)?,
        device.test.to_string(),
        device.pinned.map(|number| number.to_string()).unwrap_or_default(),
        device.menu.as_ref().map(ToString::to_string).unwrap_or_default(),
        joined(vdisks),
        word(device.on_failure)?,
    ])
}

fn import(work: Work<'_>, network: Id<Network>, text: &str) -> Result<Import, Error> {
    work.allow(Verb::Create, Noun::Device, network.place())?;
    work.allow(Verb::Change, Noun::Device, network.place())?;
    // Spreadsheets write a mark of byte order before UTF-8, and semicolons where a comma is the decimal sign.
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().unwrap_or_default();
    let separator = if first.contains(';') && !first.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| table(error.to_string()))?.clone();
    invalid(
        headers
            .iter()
            .filter(|header| !COLUMNS.contains(header))
            .map(|header| FieldError::new("file", format!("there is no column {header:?}")))
            .collect(),
    )?;
    if !headers.iter().any(|header| header == "name") {
        return Err(table("the first line names the columns, and one of them is name"));
    }
    let mut lines = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let known = |record: &StringRecord| record.position().map(csv::Position::line);
        let (line, name, outcome) = match record {
            Err(error) => {
                let line = error.position().map_or(index as u64 + 2, csv::Position::line);
                let fault = FieldError::new("file", error.to_string());
                (line, String::new(), Outcome::Faulty(vec![fault]))
            }
            Ok(record) => {
                let cells = Cells { headers: &headers, record: &record };
                let name = cells.get("name").unwrap_or_default().to_owned();
                let outcome = match work.tx.savepoint(|| one(work, network, cells)) {
                    Err(Error::Invalid(faults)) => Outcome::Faulty(faults),
                    other => other?,
                };
                (known(&record).unwrap_or(index as u64 + 2), name, outcome)
            }
        };
        lines.push(ImportLine { line, name, outcome });
    }
    Ok(Import { lines })
}

fn one(work: Work<'_>, network: Id<Network>, cells: Cells<'_>) -> Result<Outcome, Error> {
    let place = network.place();
    let name = cells.get("name").unwrap_or_default();
    let before: Option<Stored<Device>> = match work.tx.find(place, name)? {
        Some(id) => work.tx.get(id)?,
        None => None,
    };
    let device = cells.device(work, network, before.as_ref().map(|before| &before.value))?;
    match before {
        None => work.create(place, &device).map(|_| Outcome::Create),
        Some(before) if before.value == device => Ok(Outcome::Same),
        Some(before) => work.change(before.id, before.version, &device).map(|_| Outcome::Change),
    }
}

/// A line by its columns.
#[derive(Clone, Copy)]
struct Cells<'a> {
    headers: &'a StringRecord,
    record: &'a StringRecord,
}

impl Cells<'_> {
    /// The cell of a column; absent when the file does not have it.
    fn get(&self, column: &str) -> Option<&str> {
        let at = self.headers.iter().position(|header| header == column)?;
        self.record.get(at)
    }

    /// A cell parsed, or what the device had before.
    fn parsed<T>(
        &self,
        faults: &mut Vec<FieldError>,
        column: &str,
        before: Option<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match (self.get(column), before) {
            (None, Some(before)) => Some(before),
            (None, None) => {
                faults.push(FieldError::new(column, "a new device needs this"));
                None
            }
            (Some(cell), _) => match parse(cell) {
                Ok(value) => Some(value),
                Err(message) => {
                    faults.push(FieldError::new(column, message));
                    None
                }
            },
        }
    }

    fn device(
        &self,
        work: Work<'_>,
        network: Id<Network>,
        before: Option<&Device>,
    ) -> Result<Device, Error> {
        let mut faults = Vec::new();
        let f = &mut faults;
        let name = self.parsed(f, "name", None, text);
        let macs = self.parsed(f, "macs", before.map(|b| b.macs.clone()), |cell| {
            cell.split_whitespace().map(text).collect()
        });
        let subnet = self.parsed(f, "subnet", before.map(|b| b.network.clone()), text);
        let group = self.parsed(f, "group", before.map(|b| b.group.clone()), text);
        let mode = before.map_or(BootMode::Overlay, |b| b.boot_mode);
        let boot_mode = self.parsed(f, "boot_mode", Some(mode), |cell| choice(cell, mode));
        let test =
            self.parsed(f, "test", Some(before.is_some_and(|b| b.test)), |cell| match cell {
                "true" | "yes" | "1" => Ok(true),
                "false" | "no" | "0" | "" => Ok(false),
                _ => Err("write true or false".to_owned()),
            });
        let pinned = self.parsed(f, "pinned", Some(before.and_then(|b| b.pinned)), optional);
        let menu = self.parsed(f, "menu", Some(before.and_then(|b| b.menu.clone())), optional);
        let had = before.map(|b| b.vdisks.clone()).unwrap_or_default();
        let vdisks = self
            .parsed(f, "vdisks", Some(had), |cell| cell.split_whitespace().map(vdisk).collect());
        let had = before.map_or(OnFailure::default(), |b| b.on_failure);
        let on_failure = self.parsed(f, "on_failure", Some(had), |cell| choice(cell, had));
        let address = match (self.get("address"), before) {
            (None, Some(before)) => Some(before.address),
            (None | Some(""), _) => match &subnet {
                None => None,
                Some(subnet) => match work.tx.find::<Subnet>(network.place(), subnet.as_str())? {
                    None => {
                        f.push(FieldError::new("subnet", format!("there is no subnet {subnet}")));
                        None
                    }
                    Some(id) => {
                        let free = id.next_free(work)?;
                        if free.is_none() {
                            f.push(FieldError::new("address", format!("{subnet} is full")));
                        }
                        free
                    }
                },
            },
            (Some(cell), _) => self.parsed(f, "address", None, |_| {
                cell.parse().map_err(|_| format!("{cell:?} is not an IPv4 address"))
            }),
        };
        let whole =
            (name, macs, subnet, address, group, boot_mode, test, pinned, menu, vdisks, on_failure);
        let (
            Some(name),
            Some(macs),
            Some(network),
            Some(address),
            Some(group),
            Some(boot_mode),
            Some(test),
            Some(pinned),
            Some(menu),
            Some(vdisks),
            Some(on_failure),
        ) = whole
        else {
            return Err(Error::Invalid(faults));
        };
        Ok(Device {
            name,
            macs,
            network,
            address,
            group,
            boot_mode,
            test,
            pinned,
            vdisks,
            menu,
            on_failure,
        })
    }
}

fn text<T: FromStr<Err: Display>>(cell: &str) -> Result<T, String> {
    cell.parse().map_err(|error: T::Err| error.to_string())
}

fn optional<T: FromStr<Err: Display>>(cell: &str) -> Result<Option<T>, String> {
    if cell.is_empty() { Ok(None) } else { text(cell).map(Some) }
}

/// A word of the model; an empty cell leaves what was.
fn choice<T: DeserializeOwned>(cell: &str, before: T) -> Result<T, String> {
    if cell.is_empty() {
        return Ok(before);
    }
    serde_json::from_value(serde_json::Value::String(cell.to_owned()))
        .map_err(|error| error.to_string())
}

fn vdisk(cell: &str) -> Result<VdiskUse, String> {
    let (name, purpose) = match cell.split_once('=') {
        None => (cell, VdiskPurpose::Upper),
        Some((name, path)) => (name, VdiskPurpose::Mount { path: path.to_owned() }),
    };
    Ok(VdiskUse { vdisk: text(name)?, purpose })
}

#[cfg(test)]
mod tests;
