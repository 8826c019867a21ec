//! `watchbell alerts list|show|acknowledge|resolve`: what is wrong, as a table for people or JSON for programs, and what
//! somebody says of it.

use std::io::Write;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::deliveries::waits_for;
use super::{actor, table, whose};
use crate::api::alert_change::{Changed, Word, change};
use crate::api::alert_store::{
    self, AlertEntry, AlertFilter, CLASSES, EventEntry, SEVERITIES, STATES, WholeAlert, parse_tag,
};
use crate::api::deliveries::DeliveryEntry;
use crate::api::parameters::PageRequest;
use crate::config::Config;
use crate::db::tenant_scope;
use crate::model::tenant::TenantName;
use crate::outbox::redrive::Reason;

/// What to do with alerts.
#[derive(Debug, clap::Subcommand)]
pub enum AlertsCommand {
    /// List alerts, the newest first
    List(Box<ListArgs>),
    /// Show one alert: what, since when, why, what happened to it, and who was told
    Show(ShowArgs),
    /// Take an open alert on: nobody is reminded any more
    Acknowledge(ChangeArgs),
    /// Say that an alert is over; those who were told of it are told that, too
    Resolve(ChangeArgs),
}

/// Which alerts.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// In this state
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// So bad
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(SEVERITIES))]
    severity: Option<String>,
    /// That look like this
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(CLASSES))]
    class: Option<String>,
    /// Whose last episode a silence keeps from being told, or not
    #[arg(long)]
    silenced: Option<bool>,
    /// Of this device
    #[arg(long)]
    device: Option<String>,
    /// Of devices that had this tag
    #[arg(long, value_name = "NAME:VALUE", value_parser = tag)]
    tag: Option<(String, String)>,
    /// Of this metric
    #[arg(long)]
    metric: Option<String>,
    /// Of the rule with this name or id
    #[arg(long)]
    rule: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Older than the alert with this id
    #[arg(long)]
    before: Option<Uuid>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which alert.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Its id
    id: Uuid,
    /// The tenant that it belongs to; without it, whichever has it
    #[arg(long, value_parser = TenantName::parse)]
    tenant: Option<TenantName>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which alert, and what is said of it.
#[derive(Debug, clap::Args)]
pub struct ChangeArgs {
    #[command(flatten)]
    alert: ShowArgs,
    /// A word for those who read its timeline
    #[arg(long, value_parser = Reason::parse)]
    note: Option<Reason>,
}

/// Reads `site:north`.
///
/// # Errors
/// If it is no name and value.
pub fn tag(text: &str) -> Result<(String, String), String> {
    parse_tag(text).ok_or_else(|| "a tag is a name and a value, such as site:north".to_owned())
}

/// Does what the command line says, on standard output.
///
/// # Errors
/// If there is no such tenant or alert, it can't be changed so, or the database is away.
pub async fn run(config: &Config, command: AlertsCommand) -> anyhow::Result<()> {
    match command {
        AlertsCommand::List(args) => list(config, *args).await,
        AlertsCommand::Show(args) => show(config, &args).await,
        AlertsCommand::Acknowledge(args) => say(config, &args, Word::Acknowledge).await,
        AlertsCommand::Resolve(args) => say(config, &args, Word::Resolve).await,
    }
}

async fn list(config: &Config, args: ListArgs) -> anyhow::Result<()> {
    let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    let filter = AlertFilter {
        alert_id: None,
        state: args.state,
        severity: args.severity,
        class: args.class,
        silenced: args.silenced,
        device: args.device,
        tag: args.tag,
        metric: args.metric,
        rule: args.rule,
    };
    let page = PageRequest { limit: args.limit, before: args.before };
    let page = alert_store::list(&transaction, &config.api.public_url, &filter, page).await?;
    if args.json {
        println!("{}", json!({ "alerts": page.rows, "next": page.next }));
        return Ok(());
    }
    let head = ["ALERT", "STATE", "SEVERITY", "DEVICE", "METRIC", "VALUE", "SINCE", "UNTIL", "RULE"];
    table::print(&mut std::io::stdout(), head, page.rows.iter().map(row))?;
    if let Some(next) = page.next {
        println!("there are older ones: --before {next}");
    }
    Ok(())
}

async fn show(config: &Config, args: &ShowArgs) -> anyhow::Result<()> {
    let (mut connection, tenant) = whose::of_alert(config, args.id, args.tenant.as_ref()).await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    let whole = alert_store::find(&transaction, &config.api.public_url, args.id)
        .await?
        .with_context(|| format!("there is no alert {}", args.id))?;
    if args.json {
        println!("{}", serde_json::to_string(&whole)?);
    } else {
        print_whole(&whole)?;
    }
    Ok(())
}

async fn say(config: &Config, args: &ChangeArgs, word: Word) -> anyhow::Result<()> {
    let ChangeArgs { alert, note } = args;
    let id = alert.id;
    let (mut connection, tenant) = whose::of_alert(config, id, alert.tenant.as_ref()).await?;
    let transaction = tenant_scope::begin_change(&mut connection, tenant.0).await?;
    let public_url = &config.api.public_url;
    let (whole, before) =
        match change(&transaction, public_url, id, word, &actor::name(), note.as_ref()).await? {
            Changed::Now(whole) => (whole, ""),
            Changed::Before(whole) => (whole, " since before"),
            Changed::Over => bail!("alert {id} is resolved: there is nothing to acknowledge any more"),
            Changed::Unknown => bail!("there is no alert {id}"),
        };
    transaction.commit().await?;
    if alert.json {
        println!("{}", serde_json::to_string(&whole)?);
    } else {
        println!("alert {id} is {}{before}", whole.alert.state);
    }
    Ok(())
}

fn print_whole(whole: &WholeAlert) -> anyhow::Result<()> {
    let WholeAlert { alert, events, deliveries } = whole;
    print_facts(alert);
    let output = &mut std::io::stdout();
    writeln!(output)?;
    let head = ["TIMELINE", "RECORDED", "HAPPENED", "BECAME", "BY"];
    table::print(output, head, events.iter().map(event_row))?;
    writeln!(output)?;
    let head = ["NOTIFICATION", "DESTINATION", "EVENT", "STATUS", "ATTEMPTS"];
    table::print(output, head, deliveries.iter().map(delivery_row))?;
    Ok(())
}

fn row(alert: &AlertEntry) -> [String; 9] {
    let silenced = if alert.silence_id.is_some() { " (silenced)" } else { "" };
    [
        alert.alert_id.to_string(),
        alert.state.clone(),
        alert.severity.clone(),
        alert.device.clone(),
        alert.metric.clone(),
        alert.value.to_string(),
        second(alert.breached_at),
        alert.ended_at.map(second).unwrap_or_default(),
        format!("{}{silenced}", alert.rule),
    ]
}

fn event_row(event: &EventEntry) -> [String; 5] {
    let note = event.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    [
        event.kind.clone(),
        event.at.to_string(),
        event.happened_at.map(|at| at.to_string()).unwrap_or_default(),
        event.disposition.clone().unwrap_or_default(),
        format!("{}{note}", event.actor),
    ]
}

fn delivery_row(delivery: &DeliveryEntry) -> [String; 5] {
    let waits = waits_for(delivery).map(|waits| format!(", {waits}")).unwrap_or_default();
    [
        delivery.notification_id.to_string(),
        delivery.destination.clone(),
        delivery.event.clone(),
        format!("{}{waits}", delivery.status),
        delivery.attempts.to_string(),
    ]
}

fn print_facts(alert: &AlertEntry) {
    let by = |at: Option<Timestamp>, who: &Option<String>| {
        at.map(|at| format!("{at} by {}", who.as_deref().unwrap_or("nobody who is known")))
    };
    let unit = alert.unit.as_deref().unwrap_or_default();
    for (name, value) in [
        ("alert", Some(alert.alert_id.to_string())),
        ("", alert.summary.clone()),
        ("state", Some(alert.state.clone())),
        ("severity", Some(alert.severity.clone())),
        ("class", alert.class.clone()),
        ("device", Some(format!("{} {}", alert.device, alert.device_tags))),
        ("metric", Some(alert.metric.clone())),
        ("value", Some(format!("{} {unit}", alert.value))),
        ("evidence", Some(alert.evidence.to_string())),
        ("rule", Some(format!("{} (version {}) {}", alert.rule, alert.rule_version, alert.rule_id))),
        ("labels", Some(alert.labels.to_string())),
        ("runbook", alert.runbook_url.clone()),
        ("since", Some(alert.breached_at.to_string())),
        ("fired", alert.fired_at.map(|at| at.to_string())),
        ("until", alert.ended_at.map(|at| at.to_string())),
        ("stored", Some(alert.opened_at.to_string())),
        ("acknowledged", by(alert.acknowledged_at, &alert.acknowledged_by)),
        ("resolved", by(alert.resolved_at, &alert.resolved_by)),
        ("episodes", Some(alert.episodes.to_string())),
        ("silenced by", alert.silence_id.map(|id| id.to_string())),
        ("told", Some(alert.told.clone())),
        ("late", alert.late.then(|| "yes".to_owned())),
        ("historical", alert.historical.then(|| "yes: nobody was told".to_owned())),
        ("link", alert.link.clone()),
    ] {
        if let Some(value) = value {
            println!("{name:<13} {}", value.trim_end());
        }
    }
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
