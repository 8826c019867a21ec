//! How much is measured: what every benchmark is told.

use clap::builder::EnumValueParser;

/// At the end of each one's help.
pub const PRIVATE: &str = "The servers are private and throw-away; nothing that DATABASE_URL or NATS_URL names is touched. \
Compare figures of one run only, and use a release build. The exit code says whether it was measured, not what came out.";

/// How often, and which parts.
#[derive(Debug, clap::Args)]
pub struct Extent<Part: clap::ValueEnum + Clone + Send + Sync + 'static> {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// A look in a minute or two: two rounds, a fifth of the rows or readings
    #[arg(long)]
    pub quick: bool,
    /// Rounds, each with every contender; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Only some of it, separated by commas; figures that compare need both sides
    #[arg(long, value_delimiter = ',', value_name = "PARTS", value_parser = EnumValueParser::<Part>::new())]
    only: Vec<Part>,
}

impl<Part: clap::ValueEnum + Clone + PartialEq + Send + Sync + 'static> Extent<Part> {
    /// Whether this is measured.
    pub fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// How often.
    pub fn rounds(&self) -> u8 {
        if self.quick { self.rounds.min(2) } else { self.rounds }
    }

    /// How many of so many.
    pub fn share_of(&self, whole: u32) -> usize {
        whole as usize / if self.quick { 5 } else { 1 }
    }
}
