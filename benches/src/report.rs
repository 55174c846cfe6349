//! A report of figures: its head, its sections, and where it goes.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::facts;

/// Markdown that is made section by section.
#[derive(Debug)]
pub struct Report(String);

impl Report {
    /// A title, how to make it again, and facts about the machine.
    pub fn new(title: &str, bin: &str) -> Self {
        let mut text = format!(
            "# {title}\n\nMade by `cargo build --release --workspace --bins && cargo run --release -p orama-benches --bin {bin}`.\n\n{}",
            facts::machine()
        );
        if cfg!(debug_assertions) {
            text.push_str("- **a debug build: these figures mean nothing**\n");
        }
        Self(text)
    }

    /// Adds a section.
    pub fn push(&mut self, section: &str) {
        self.0.push('\n');
        self.0.push_str(section);
    }

    /// Shows it.
    pub fn print(&self) {
        println!("{}", self.0);
    }

    /// Makes it the whole of `benches/RESULTS.md`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> anyhow::Result<()> {
        let path = results();
        std::fs::write(&path, &self.0).with_context(|| path.display().to_string())?;
        println!("written to {}", path.display());
        Ok(())
    }

    /// Adds it to `benches/RESULTS.md`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&self) -> anyhow::Result<()> {
        let path = results();
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("\n{}", self.0).as_bytes()))
            .with_context(|| path.display().to_string())?;
        println!("appended to {}", path.display());
        Ok(())
    }
}

fn results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md")
}
