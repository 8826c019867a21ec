//! JSON that somebody hands to a command: a file, or standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

/// Larger is a mistake.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Where it comes from.
#[derive(Debug, clap::Args)]
pub struct JsonInput {
    /// Read the JSON from this file; without it, or with `-`, from standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl JsonInput {
    /// Reads it.
    ///
    /// # Errors
    /// If it can't be read, is no JSON or too large.
    pub fn read(&self) -> anyhow::Result<Value> {
        let (name, text) = match &self.file {
            Some(path) if path != Path::new("-") => {
                let name = path.display().to_string();
                let file = std::fs::File::open(path).with_context(|| format!("failed to open {name}"))?;
                (name, text(file))
            }
            _ => ("standard input".to_owned(), text(std::io::stdin())),
        };
        let text = text.with_context(|| format!("failed to read {name}"))?;
        serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))
    }
}

fn text(source: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    source.take(LARGEST + 1).read_to_string(&mut text)?;
    anyhow::ensure!(text.len() as u64 <= LARGEST, "it is larger than {LARGEST} bytes");
    Ok(text)
}
