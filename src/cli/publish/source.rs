//! From a file's lines to readings that have every field a reading needs. Pure: it reads what it is given.
//!
//! Owns the two formats. Nothing is judged here that the service judges: a row becomes the JSON of a reading, with the
//! file's own digits, and [`super::draft`] asks the service's functions about it. One row is in memory at a time.

use std::io::{BufRead, Read};

use anyhow::{Context, bail};
use csv::ByteRecord;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::draft::{Draft, Fields, time_from_text};
use crate::ingest::decode::decode;
use crate::ingest::reject::{Reason, Refusal};

/// A line of NDJSON that is longer is refused; NATS takes no message that long either.
const LINE_MAX: usize = 1024 * 1024;
const TIME_COLUMNS: [&str; 3] = ["timestamp", "ts", "time"];

/// How readings are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line with the columns' names, then a reading a line
    Csv,
    /// A JSON object, or an array of them, a line
    Ndjson,
}

impl Format {
    /// What a file's name says of it.
    pub fn of_name(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

/// What readings get that don't say it themselves.
#[derive(Debug, Clone, Default)]
pub struct Fill {
    /// The device.
    pub device: Option<String>,
    /// The metric.
    pub metric: Option<String>,
    /// The unit.
    pub unit: Option<String>,
}

/// What stands at a place of the file.
#[derive(Debug)]
pub struct Row {
    /// Its line, from 1.
    pub line: u64,
    /// A reading, or why it is none.
    pub draft: Result<Draft, Refusal>,
}

/// The rows of a file, one after the other.
pub enum Source<R> {
    /// A table.
    Csv(Box<Table<R>>),
    /// JSON a line.
    Ndjson(Lines<R>),
}

impl<R: BufRead> Source<R> {
    /// Begins to read; of a table, the line with the columns' names.
    ///
    /// # Errors
    /// If a column is missing that `fill` doesn't stand in for, or the file can't be read.
    pub fn open(reader: R, format: Format, fill: Fill) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Csv => Self::Csv(Box::new(Table::open(reader, fill)?)),
            Format::Ndjson => Self::Ndjson(Lines { reader, fill, line: 0, bytes: 0 }),
        })
    }

    /// The rows of the next line that has any; `None` at the end.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn next_rows(&mut self) -> anyhow::Result<Option<Vec<Row>>> {
        match self {
            Self::Csv(table) => Ok(table.next_row()?.map(|row| vec![row])),
            Self::Ndjson(lines) => lines.next_rows(),
        }
    }

    /// How many bytes are read.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Csv(table) => table.reader.position().byte(),
            Self::Ndjson(lines) => lines.bytes,
        }
    }
}

/// A table with a line of names.
pub struct Table<R> {
    reader: csv::Reader<R>,
    record: ByteRecord,
    /// The reader counts a line when its `\n` is read; where lines end in `\r\n` that is one record later.
    uncounted: u64,
    fill: Fill,
    time: usize,
    value: usize,
    device: Option<usize>,
    metric: Option<usize>,
    unit: Option<usize>,
}

impl<R: Read> Table<R> {
    fn open(reader: R, fill: Fill) -> anyhow::Result<Self> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(reader);
        let names: Vec<String> = reader
            .byte_headers()
            .context("failed to read the line with the columns' names")?
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim_start_matches('\u{feff}').to_ascii_lowercase())
            .collect();
        let place = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
        let needed = |wanted: &[&str], what: &str| {
            let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            place(wanted).with_context(|| format!("there is no column {what}; the columns are: {found}"))
        };
        let time = needed(&TIME_COLUMNS, "`timestamp`, `ts` or `time`")?;
        let value = needed(&["value"], "`value`")?;
        let (device, metric, unit) = (place(&["device"]), place(&["metric"]), place(&["unit"]));
        if device.is_none() && fill.device.is_none() {
            bail!("there is no column `device`: say with --device whose readings these are");
        }
        if metric.is_none() && fill.metric.is_none() {
            bail!("there is no column `metric`: say with --metric what was measured");
        }
        let uncounted = u64::from(reader.position().line() == 1);
        Ok(Self { reader, record: ByteRecord::new(), uncounted, fill, time, value, device, metric, unit })
    }

    fn next_row(&mut self) -> anyhow::Result<Option<Row>> {
        if !self.reader.read_byte_record(&mut self.record).context("failed to read the file")? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line) + self.uncounted;
        Ok(Some(Row { line, draft: self.draft() }))
    }

    fn draft(&self) -> Result<Draft, Refusal> {
        let value = self.text(Some(self.value))?.unwrap_or_default();
        let number: f64 = value.parse().map_err(|_| {
            Refusal::new(Reason::NotAReading, format!("value `{}` is not a number", shortened(value)))
        })?;
        if !number.is_finite() {
            return Err(Refusal::new(Reason::NotFinite, "value is not a finite number"));
        }
        let time = self.text(Some(self.time))?.unwrap_or_default();
        let named = |place, fill: &Option<String>| -> Result<Option<String>, Refusal> {
            Ok(self.text(place)?.map(str::to_owned).or_else(|| fill.clone()).map(json_of))
        };
        Draft::check(Fields {
            device: named(self.device, &self.fill.device)?,
            metric: named(self.metric, &self.fill.metric)?,
            unit: named(self.unit, &self.fill.unit)?,
            value: Some(json_of(number)),
            ts: Some(time_from_text(time)),
        })
    }

    /// A cell; `None` if it is empty or not there.
    fn text(&self, place: Option<usize>) -> Result<Option<&str>, Refusal> {
        let cell = place.and_then(|place| self.record.get(place)).unwrap_or_default();
        let text = std::str::from_utf8(cell)
            .map_err(|_| Refusal::new(Reason::BadText, "the line is not UTF-8 text"))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

/// JSON a line.
pub struct Lines<R> {
    reader: R,
    fill: Fill,
    line: u64,
    bytes: u64,
}

/// A reading with any field missing; each as it was written.
#[derive(Deserialize)]
struct Loose<'a> {
    #[serde(borrow, default)]
    device: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metric: Option<&'a RawValue>,
    #[serde(borrow, default)]
    unit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ts: Option<&'a RawValue>,
}

impl<R: BufRead> Lines<R> {
    fn next_rows(&mut self) -> anyhow::Result<Option<Vec<Row>>> {
        loop {
            let mut bytes = Vec::new();
            let limit = LINE_MAX as u64 + 1;
            let read = self
                .reader
                .by_ref()
                .take(limit)
                .read_until(b'\n', &mut bytes)
                .context("failed to read the file")?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            self.bytes += read as u64;
            let line = self.line;
            if read > LINE_MAX && bytes.last() != Some(&b'\n') {
                self.bytes += self.reader.skip_until(b'\n').context("failed to read the file")? as u64;
                let refusal =
                    Refusal::new(Reason::NotAReading, format!("the line is longer than {LINE_MAX} bytes"));
                return Ok(Some(vec![Row { line, draft: Err(refusal) }]));
            }
            let text = bytes.trim_ascii();
            if !text.is_empty() {
                return Ok(Some(self.drafts(text).into_iter().map(|draft| Row { line, draft }).collect()));
            }
        }
    }

    fn drafts(&self, line: &[u8]) -> Vec<Result<Draft, Refusal>> {
        let refused = || decode(line).into_iter().filter_map(|element| element.err().map(Err));
        if line.first() == Some(&b'[') {
            return match serde_json::from_slice::<Vec<&RawValue>>(line) {
                Ok(elements) => elements.iter().map(|element| self.draft(element.get())).collect(),
                Err(_) => refused().collect(),
            };
        }
        match std::str::from_utf8(line) {
            Ok(text) => vec![self.draft(text)],
            Err(_) => refused().collect(),
        }
    }

    fn draft(&self, element: &str) -> Result<Draft, Refusal> {
        let Ok(loose) = serde_json::from_str::<Loose<'_>>(element) else {
            // The service says best what is wrong with it.
            let refusal = decode(element.as_bytes()).into_iter().find_map(Result::err);
            return Err(refusal.unwrap_or_else(|| Refusal::new(Reason::NotAReading, "is not a reading")));
        };
        let named = |field, fill: &Option<String>| {
            written(field).map(str::to_owned).or_else(|| fill.clone().map(json_of))
        };
        let ts = written(loose.ts).map(|ts| match serde_json::from_str::<String>(ts) {
            Ok(text) => time_from_text(&text),
            Err(_) => ts.to_owned(),
        });
        Draft::check(Fields {
            device: named(loose.device, &self.fill.device),
            metric: named(loose.metric, &self.fill.metric),
            unit: named(loose.unit, &self.fill.unit),
            value: loose.value.map(|value| value.get().to_owned()),
            ts,
        })
    }
}

fn written(field: Option<&RawValue>) -> Option<&str> {
    field.map(RawValue::get).filter(|text| *text != "null")
}

fn json_of(value: impl Into<serde_json::Value>) -> String {
    value.into().to_string()
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
