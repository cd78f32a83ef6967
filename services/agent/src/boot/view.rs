//! What the boot service knows of the server: the document in force and the boot files. Immutable: the owner swaps the whole.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    Document,
    observed::{BootFiles, GenerationId},
};

/// The document in force and the boot files that were observed.
#[derive(Debug, Default)]
pub struct View {
    document: Arc<Document>,
    boot_files: BTreeMap<GenerationId, BootFiles>,
}

impl View {
    /// Puts both together.
    pub fn new(document: Arc<Document>, boot_files: BTreeMap<GenerationId, BootFiles>) -> Self {
        Self { document, boot_files }
    }

    /// The document.
    pub fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// All boot files.
    pub fn all_boot_files(&self) -> &BTreeMap<GenerationId, BootFiles> {
        &self.boot_files
    }

    /// The kernel and initrd of a generation, once they were read out of it.
    pub fn boot_files(&self, generation: &GenerationId) -> Option<&BootFiles> {
        self.boot_files.get(generation)
    }
}
