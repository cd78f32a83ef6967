//! The storage tree and the menus as forms.

use model::desired::{MenuAction, MenuEntry, Source};
use panel::noun::{Group, Menu, Vdisk, Volume};

use super::{Shape, joined, word};
use crate::fields::{Fields, Reader, render_size};

impl Shape for Volume {
    const PLURAL: &'static str = "volumes";

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let pool = form.required("pool");
        let size_bytes = form.size("size_bytes");
        let source = if form.fields().has("source.location") {
            let location = form.required("source.location");
            let format = form.word("source.format");
            let sha256 = form.required("source.sha256");
            location
                .zip(format)
                .zip(sha256)
                .map(|((location, format), sha256)| Some(Source { location, format, sha256 }))
        } else {
            Some(None)
        };
        Some(Self { name: name?, pool: pool?, size_bytes: size_bytes?, source: source? })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("pool", &self.pool);
        fields.put("size_bytes", render_size(self.size_bytes));
        if let Some(source) = &self.source {
            fields.put("source.location", &source.location);
            fields.put("source.format", word(&source.format));
            fields.put("source.sha256", &source.sha256);
        }
        fields
    }
}

impl Shape for Group {
    const PLURAL: &'static str = "groups";

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let volume = form.required("volume");
        let generations = form.list("generations");
        let production = form.required("production");
        let test = form.optional("test");
        let kernel_arguments = form.fields().get("kernel_arguments").to_owned();
        Some(Self {
            name: name?,
            volume: volume?,
            generations: generations?,
            production: production?,
            test: test?,
            kernel_arguments,
        })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("volume", &self.volume);
        fields.put("generations", joined(&self.generations));
        fields.put("production", self.production);
        fields.put_some("test", self.test);
        fields.put("kernel_arguments", &self.kernel_arguments);
        fields
    }
}

impl Shape for Vdisk {
    const PLURAL: &'static str = "vdisks";

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let server = form.required("server");
        let pool = form.required("pool");
        let size_bytes = form.size("size_bytes");
        Some(Self { name: name?, server: server?, pool: pool?, size_bytes: size_bytes? })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("server", &self.server);
        fields.put("pool", &self.pool);
        fields.put("size_bytes", render_size(self.size_bytes));
        fields
    }
}

impl Shape for Menu {
    const PLURAL: &'static str = "menus";

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let title = form.required("title");
        let timeout_s = form.optional("timeout_s");
        // People count from 1.
        let default: Option<Option<usize>> = form.optional("default");
        let rows: Vec<_> = (0..form.fields().rows("entries"))
            .filter(|row| form.fields().has(&format!("entries[{row}].label")))
            .collect();
        let entries: Option<Vec<_>> =
            rows.into_iter().map(|row| entry(form, &format!("entries[{row}]"))).collect();
        Some(Self {
            name: name?,
            title: title?,
            timeout_s: timeout_s?.unwrap_or(0),
            default: default?.map_or(0, |default| default.saturating_sub(1)),
            entries: entries?,
        })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("title", &self.title);
        fields.put("timeout_s", self.timeout_s);
        fields.put("default", self.default.saturating_add(1));
        for (row, entry) in self.entries.iter().enumerate() {
            let (action, generation) = match &entry.action {
                MenuAction::Image => ("image", None),
                MenuAction::Generation { generation } => ("generation", Some(*generation)),
                MenuAction::LocalDisk => ("local-disk", None),
                MenuAction::Shell => ("shell", None),
                MenuAction::Reboot => ("reboot", None),
            };
            fields.put(format!("entries[{row}].label"), &entry.label);
            fields.put(format!("entries[{row}].action"), action);
            fields.put_some(format!("entries[{row}].generation"), generation);
        }
        fields
    }
}

fn entry(form: &mut Reader<'_>, at: &str) -> Option<MenuEntry> {
    let label = form.required(&format!("{at}.label"));
    let action = match form.fields().get(&format!("{at}.action")) {
        "image" => Some(MenuAction::Image),
        "generation" => form
            .required(&format!("{at}.generation"))
            .map(|generation| MenuAction::Generation { generation }),
        "local-disk" => Some(MenuAction::LocalDisk),
        "shell" => Some(MenuAction::Shell),
        "reboot" => Some(MenuAction::Reboot),
        _ => form.fault(&format!("{at}.action"), "choose one"),
    };
    Some(MenuEntry { label: label?, action: action? })
}
