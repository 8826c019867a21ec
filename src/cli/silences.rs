//! `watchbell silences list|create|end`: not being told of some alerts for a while.

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::alerts::tag;
use super::{actor, table, whose};
use crate::api::parameters::PageRequest;
use crate::api::silence_store::{self, Devices, STATES, SilenceEntry, SilenceWish};
use crate::config::Config;
use crate::db::tenant_scope;
use crate::model::tenant::TenantName;
use crate::outbox::redrive::Reason;

/// What to do with silences.
#[derive(Debug, clap::Subcommand)]
pub enum SilencesCommand {
    /// List silences: active ones first, then pending, then ended ones
    List(ListArgs),
    /// Silence alerts of a rule, of devices, or of a rule on devices; they are kept and marked
    Create(Box<CreateArgs>),
    /// End a silence now
    End(EndArgs),
}

/// Which silences.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// In this state
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Behind the silence with this id
    #[arg(long)]
    before: Option<Uuid>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What to silence.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
#[command(group = clap::ArgGroup::new("end").required(true))]
pub struct CreateArgs {
    /// Alerts of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// Of the rule with this name or id
    #[arg(long, group = "what")]
    rule: Option<String>,
    /// Of devices whose id this matches; * stands for any run of characters
    #[arg(long, group = "what", value_name = "PATTERN")]
    device: Option<String>,
    /// Of devices with this tag; may come more than once: with all of them
    #[arg(long, group = "what", value_name = "NAME:VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
    /// From then on (RFC 3339); without it, from now on
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Until then (RFC 3339)
    #[arg(long, group = "end", value_name = "TIME")]
    until: Option<Timestamp>,
    /// For so long: 90m, 2h, 1h30m
    #[arg(long = "for", group = "end", value_name = "DURATION", value_parser = seconds)]
    duration: Option<u32>,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which silence.
#[derive(Debug, clap::Args)]
pub struct EndArgs {
    /// Its id
    id: Uuid,
    /// The tenant that it belongs to; without it, whichever has it
    #[arg(long, value_parser = TenantName::parse)]
    tenant: Option<TenantName>,
    /// Why, for the record
    #[arg(long, value_parser = Reason::parse)]
    reason: Option<Reason>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<u32, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "such as 90m, 2h or 1h30m".to_owned())?;
    u32::try_from(duration.as_secs()).map_err(|_| "from a second to a year".to_owned())
}

/// Does what the command line says, on standard output.
///
/// # Errors
/// If there is no such tenant, rule or silence, it can't be silenced so, or the database is away.
pub async fn run(config: &Config, command: SilencesCommand) -> anyhow::Result<()> {
    match command {
        SilencesCommand::List(args) => list(config, &args).await,
        SilencesCommand::Create(args) => create(config, *args).await,
        SilencesCommand::End(args) => end(config, &args).await,
    }
}

async fn list(config: &Config, args: &ListArgs) -> anyhow::Result<()> {
    let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    let page = PageRequest { limit: args.limit, before: args.before };
    let page = silence_store::list(&transaction, args.state.as_deref(), page).await?;
    if args.json {
        println!("{}", json!({ "silences": page.rows, "next": page.next }));
        return Ok(());
    }
    let head = ["SILENCE", "STATE", "FROM", "UNTIL", "WHAT", "BY", "WHY"];
    table::print(&mut std::io::stdout(), head, page.rows.iter().map(row))?;
    if let Some(next) = page.next {
        println!("there are more: --before {next}");
    }
    Ok(())
}

async fn create(config: &Config, args: CreateArgs) -> anyhow::Result<()> {
    let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
    let transaction = tenant_scope::begin_change(&mut connection, tenant.0).await?;
    let rule_id = match &args.rule {
        None => None,
        Some(rule) => {
            let found = silence_store::find_rule(&transaction, rule).await?;
            Some(found.with_context(|| format!("there is no rule `{rule}`"))?)
        }
    };
    let wish = SilenceWish {
        rule_id,
        devices: Some(Devices { pattern: args.device, tags: args.tag.into_iter().collect() }),
        starts_at: args.from,
        ends_at: args.until,
        duration_seconds: args.duration,
        reason: args.reason,
    };
    let made = silence_store::create(&transaction, wish, &actor::name()).await?;
    transaction.commit().await?;
    print_one(&made, args.json)
}

async fn end(config: &Config, args: &EndArgs) -> anyhow::Result<()> {
    let (mut connection, tenant) = whose::of_silence(config, args.id, args.tenant.as_ref()).await?;
    let transaction = tenant_scope::begin_change(&mut connection, tenant.0).await?;
    let ended = silence_store::end(&transaction, args.id, &actor::name(), args.reason.as_ref()).await?;
    let ended = ended.with_context(|| format!("there is no silence {}", args.id))?;
    transaction.commit().await?;
    print_one(&ended, args.json)
}

fn print_one(silence: &SilenceEntry, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(silence)?);
    } else {
        let (id, state, what) = (silence.silence_id, &silence.state, what(silence));
        println!("silence {id} of {what} is {state}: from {} until {}", silence.starts_at, silence.ends_at);
    }
    Ok(())
}

fn row(silence: &SilenceEntry) -> [String; 7] {
    [
        silence.silence_id.to_string(),
        silence.state.clone(),
        second(silence.starts_at),
        second(silence.ends_at),
        what(silence),
        silence.created_by.clone(),
        silence.reason.clone(),
    ]
}

/// Such as `rule hot, device pump-*, site:north`.
fn what(silence: &SilenceEntry) -> String {
    let rule = silence.rule.as_ref().map(|rule| format!("rule {rule}"));
    let device = silence.devices.pattern.as_ref().map(|pattern| format!("device {pattern}"));
    let tags = silence.devices.tags.iter().map(|(name, value)| format!("{name}:{value}"));
    rule.into_iter().chain(device).chain(tags).collect::<Vec<_>>().join(", ")
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_people_say_it() {
        assert_eq!(seconds("90m"), Ok(5_400));
        assert_eq!(seconds("1h30m"), Ok(5_400));
        assert_eq!(seconds("45s"), Ok(45));
        for bad in ["", "soon", "90", "-1h"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
