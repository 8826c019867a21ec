//! `watchbell publish`: a recording from a file to the stream.
//!
//! Invariant: each reading of the file is either known to be stored by the broker, or counted as refused, or the command
//! ends with an error that says how far it came. It judges with the service's own functions, so what it accepts the
//! service accepts too; only a tenant that the service does not know shows nowhere but in `rejected_readings`.

mod draft;
mod progress;
pub(super) mod send;
mod source;
mod summary;

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use jiff::Timestamp;

use self::draft::{Draft, exact, time_from_text};
use self::progress::Progress;
use self::send::{Message, Sender, joined};
use self::source::{Fill, Format, Row, Source};
use self::summary::Summary;
use crate::config::{self, Config};
use crate::ingest::broker;
use crate::ingest::validate::Window;
use crate::model::reading::UnixMicros;
use crate::model::tenant::TenantName;

/// Readings in a message, at the most.
const MESSAGE_READINGS: u64 = 100;
/// Bytes in a message, about; the broker's own limit is 1 MiB unless somebody changed it.
const MESSAGE_BYTES: usize = 256 * 1024;
/// Messages that wait for the broker's word, at the most.
const OUTSTANDING: usize = 64;
/// Messages a second when a rate is asked for, at the least, if there are readings enough.
const MESSAGES_A_SECOND: u64 = 10;
/// What comes from standard input and is to be moved has to be kept until its end is known.
const KEPT_MAX: u64 = 256 * 1024 * 1024;

/// What to publish, and how.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "CSV begins with a line of names: `timestamp` (or `ts`, `time`) and `value`, and if the file has \
them `device`, `metric` and `unit`. NDJSON has one reading, or an array of readings, a line. Times are RFC 3339, \
`YYYY-MM-DD HH:MM:SS` in UTC, or Unix times.\n\nThe exit code is 0 when the broker has stored every reading, and 1 when \
some were refused or it could not be reached. Readings of a tenant that the service does not know are stored by the \
broker; the service puts them into rejected_readings."
)]
pub struct PublishArgs {
    /// A .csv, .ndjson or .jsonl file; `-` is standard input
    file: PathBuf,
    /// For this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// The device of readings that name none
    #[arg(long)]
    device: Option<String>,
    /// The metric of readings that name none
    #[arg(long)]
    metric: Option<String>,
    /// The unit of readings that name none
    #[arg(long)]
    unit: Option<String>,
    /// How the file is written, if its name does not say it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Move all readings in time so that the latest is at this instant; `now`, or a time
    #[arg(long, value_name = "TIME", value_parser = parse_end)]
    end: Option<End>,
    /// Readings a second; as fast as the broker takes them unless given
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// Give up when the broker stored nothing for so many seconds; below the two minutes in which it knows repeats
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=110))]
    retry_for: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Now,
    At(UnixMicros),
}

fn parse_end(text: &str) -> Result<End, String> {
    if text == "now" {
        return Ok(End::Now);
    }
    let json = time_from_text(text);
    match serde_json::from_str::<Timestamp>(&json) {
        Ok(at) => Ok(End::At(at.into())),
        Err(_) => Err("is neither `now` nor a time like 2026-09-21T14:13:20.000000Z".to_owned()),
    }
}

/// Publishes the file and says what became of it.
///
/// # Errors
/// If the file can't be read, has no such columns, or the broker can't be reached at all.
pub async fn run(config: &Config, args: &PublishArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let name = args.file.display().to_string();
    let mut summary = Summary::default();
    let (input, end) = tokio::task::block_in_place(|| Input::open(args)).with_context(|| name.clone())?;
    summary.end = end.map(|(end, _)| exact(end));
    let client = broker::connect(config).await?;
    let subject = format!("{}.{}", config.ingest.subject_prefix, args.tenant);
    let mut sender = Sender::new(client, subject, Duration::from_secs(args.retry_for), OUTSTANDING);
    let shift = end.map(|(_, shift)| shift);
    let outcome = transfer(input, shift, args, &config.ingest, &mut sender, &mut summary).await;
    let stored = sender.stored();
    summary.note_stored(stored);
    summary.seconds = (started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
    if let Err(error) = outcome {
        let again = match &summary.end {
            Some(end) => format!("; with `--end {end}` a second publish stores none of them twice"),
            None => String::new(),
        };
        let so_far =
            format!("{} readings of {name} are stored, up to line {}{again}", stored.readings, stored.line);
        summary.error = Some(format!("{error:#}; {so_far}"));
    }
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        summary.print();
    }
    if let Some(error) = &summary.error {
        eprintln!("watchbell: {error}");
    }
    Ok(if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is read from, and how many bytes it has, if that is known.
struct Input {
    reader: Box<dyn BufRead + Send>,
    bytes: Option<u64>,
    format: Format,
    fill: Fill,
}

impl Input {
    /// Opens the file; where the readings are to be moved, reads it once to find their latest time. Returns that with the
    /// end asked for, as `(end, microseconds to move)`.
    fn open(args: &PublishArgs) -> anyhow::Result<(Self, Option<(UnixMicros, i64)>)> {
        let name = args.file.to_string_lossy();
        let is_stdin = name == "-";
        let format = args.format.or_else(|| Format::of_name(&name));
        let format = format.context("say with --format whether it is csv or ndjson")?;
        let fill = Fill { device: args.device.clone(), metric: args.metric.clone(), unit: args.unit.clone() };
        let open = |reader, bytes| Self { reader, bytes, format, fill: fill.clone() };
        let Some(asked) = args.end else {
            let input = if is_stdin {
                open(Box::new(BufReader::new(std::io::stdin())) as Box<dyn BufRead + Send>, None)
            } else {
                let (file, bytes) = open_file(args)?;
                open(Box::new(file), bytes)
            };
            return Ok((input, None));
        };
        let (latest, input) = if is_stdin {
            let kept = Bytes::from(keep_stdin()?);
            let bytes = Some(kept.len() as u64);
            let latest = latest(Source::open(Cursor::new(kept.clone()), format, fill.clone())?)?;
            (latest, open(Box::new(Cursor::new(kept)), bytes))
        } else {
            let latest = latest(Source::open(open_file(args)?.0, format, fill.clone())?)?;
            let (file, bytes) = open_file(args)?;
            (latest, open(Box::new(file), bytes))
        };
        let end = match asked {
            End::Now => Timestamp::now().into(),
            End::At(at) => at,
        };
        // Without a single time there is nothing to move, and nothing that could be sent.
        Ok((input, Some((end, latest.map_or(0, |latest| end.0.saturating_sub(latest.0))))))
    }
}

fn open_file(args: &PublishArgs) -> anyhow::Result<(BufReader<File>, Option<u64>)> {
    let file = File::open(&args.file).context("failed to open the file")?;
    let about = file.metadata().context("failed to look at the file")?;
    if about.is_dir() {
        bail!("this is a directory");
    }
    if args.end.is_some() && !about.is_file() {
        bail!("it can be read only once, and --end has to read it twice: give it on standard input, as `-`");
    }
    Ok((BufReader::with_capacity(64 * 1024, file), about.is_file().then_some(about.len())))
}

fn keep_stdin() -> anyhow::Result<Vec<u8>> {
    let mut kept = Vec::new();
    std::io::stdin().take(KEPT_MAX + 1).read_to_end(&mut kept).context("failed to read standard input")?;
    if kept.len() as u64 > KEPT_MAX {
        bail!(
            "standard input has more than {} MiB, which are kept in memory for --end: give it as a file",
            KEPT_MAX / 1024 / 1024
        );
    }
    Ok(kept)
}

fn latest(mut source: Source<impl BufRead>) -> anyhow::Result<Option<UnixMicros>> {
    let mut latest = None;
    while let Some(rows) = source.next_rows()? {
        latest = rows.iter().filter_map(|row| row.draft.as_ref().ok()?.ts()).max().max(latest);
    }
    Ok(latest)
}

async fn transfer(
    input: Input,
    shift: Option<i64>,
    args: &PublishArgs,
    ingest: &config::Ingest,
    sender: &mut Sender,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut progress = Progress::new(input.bytes);
    let window =
        Window::around(Timestamp::now().into(), ingest.accepted_days, ingest.future_tolerance_seconds);
    let readings =
        args.rate.map_or(MESSAGE_READINGS, |rate| (rate / MESSAGES_A_SECOND).clamp(1, MESSAGE_READINGS));
    let mut source = Source::open(input.reader, input.format, input.fill)?;
    let mut pace = args.rate.map(|rate| (tokio::time::Instant::now(), rate));
    let mut growing = Growing::default();
    let outcome = async {
        while let Some(rows) = tokio::task::block_in_place(|| source.next_rows())? {
            for Row { line, draft } in rows {
                summary.read += 1;
                let key = draft.as_ref().ok().and_then(Draft::key);
                match draft.and_then(|draft| draft.finish(shift, window)) {
                    Ok((json, ts)) => {
                        summary.note_key(key);
                        growing.add(&json, ts, line);
                    }
                    Err(refusal) => summary.refuse(line, refusal),
                }
                if growing.readings >= readings || growing.json.len() >= MESSAGE_BYTES {
                    send(&mut growing, sender, &mut pace).await?;
                    progress.show(source.bytes(), sender.stored().readings);
                }
            }
        }
        if growing.readings > 0 {
            send(&mut growing, sender, &mut pace).await?;
        }
        sender.finish().await
    }
    .await;
    progress.end();
    outcome
}

/// Sends what has grown, when its first reading is due.
async fn send(
    growing: &mut Growing,
    sender: &mut Sender,
    pace: &mut Option<(tokio::time::Instant, u64)>,
) -> anyhow::Result<()> {
    let message = std::mem::take(growing).into_message();
    if let Some((due, rate)) = pace {
        tokio::time::sleep_until(*due).await;
        *due += Duration::from_secs_f64(message.readings as f64 / *rate as f64);
    }
    sender.send(message).await
}

/// A message while it grows.
#[derive(Default)]
struct Growing {
    json: String,
    readings: u64,
    span: Option<(UnixMicros, UnixMicros)>,
    line: u64,
}

impl Growing {
    fn add(&mut self, json: &str, ts: Option<UnixMicros>, line: u64) {
        self.json.push(if self.readings == 0 { '[' } else { ',' });
        self.json.push_str(json);
        self.readings += 1;
        self.span = joined(self.span, ts.map(|ts| (ts, ts)));
        self.line = line;
    }

    fn into_message(self) -> Message {
        let body = format!("{}]", self.json).into();
        Message { body, readings: self.readings, span: self.span, line: self.line }
    }
}
