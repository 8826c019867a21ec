//! `watchbell deliveries list|show`: who was told what, as a table for people or JSON for programs.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::redrive::tenant_of;
use crate::api::deliveries::{DeliveryEntry, DeliveryFilter, STATUSES, WholeDelivery, find, list};
use crate::api::key_store::find_tenant;
use crate::api::parameters::PageRequest;
use crate::config::Config;
use crate::db::pool::{Pool, Role, connect_owner};
use crate::db::tenant_scope;
use crate::model::tenant::TenantName;

/// What to look at.
#[derive(Debug, clap::Subcommand)]
pub enum DeliveriesCommand {
    /// List notifications and how far each got, the newest first
    List(ListArgs),
    /// Show one notification: what was sent, every attempt, and what people did to it
    Show(ShowArgs),
}

/// Which notifications.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// That got so far
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATUSES))]
    status: Option<String>,
    /// To the destination with this name or id
    #[arg(long)]
    destination: Option<String>,
    /// Of this alert
    #[arg(long)]
    alert: Option<Uuid>,
    /// So many at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Older than the notification with this id
    #[arg(long)]
    before: Option<Uuid>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which notification.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Its id
    id: Uuid,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints what is asked for.
///
/// # Errors
/// If there is no such tenant or notification, or the database is away.
pub async fn run(config: &Config, command: DeliveriesCommand) -> anyhow::Result<()> {
    config.require_database()?;
    match command {
        DeliveriesCommand::List(args) => print_list(config, args).await,
        DeliveriesCommand::Show(args) => show(config, &args).await,
    }
}

async fn print_list(config: &Config, args: ListArgs) -> anyhow::Result<()> {
    let owner = connect_owner(&config.database).await?;
    let tenant = find_tenant(&owner, &args.tenant).await?;
    let tenant = tenant.with_context(|| format!("there is no tenant `{}`", args.tenant))?;
    let mut connection = Pool::new(&config.database, Role::Api, 1)?.get().await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    let filter = DeliveryFilter {
        notification_id: None,
        status: args.status,
        destination: args.destination,
        alert_id: args.alert,
    };
    let page = list(&transaction, &filter, PageRequest { limit: args.limit, before: args.before }).await?;
    if args.json {
        println!("{}", json!({ "deliveries": page.rows, "next": page.next }));
        return Ok(());
    }
    println!(
        "{:<36}  {:<10} {:>8}  {:<20} {:<8} {:<20} last answer",
        "notification", "status", "attempts", "destination", "event", "created"
    );
    for delivery in &page.rows {
        println!(
            "{:<36}  {:<10} {:>8}  {:<20} {:<8} {:<20} {}",
            delivery.notification_id,
            delivery.status,
            delivery.attempts,
            delivery.destination,
            delivery.event,
            second(delivery.created_at),
            last_answer(delivery)
        );
    }
    if let Some(next) = page.next {
        println!("there are older ones: --before {next}");
    }
    Ok(())
}

async fn show(config: &Config, args: &ShowArgs) -> anyhow::Result<()> {
    let tenant = tenant_of(config, args.id).await?;
    let mut connection = Pool::new(&config.database, Role::Api, 1)?.get().await?;
    let transaction = tenant_scope::begin(&mut connection, tenant).await?;
    let whole = find(&transaction, args.id)
        .await?
        .with_context(|| format!("there is no notification {}", args.id))?;
    if args.json {
        println!("{}", serde_json::to_string(&whole)?);
    } else {
        print_whole(&whole);
    }
    Ok(())
}

fn print_whole(whole: &WholeDelivery) {
    let WholeDelivery { delivery, told_alert_ids, body, attempts, actions } = whole;
    println!("notification  {}", delivery.notification_id);
    println!("alert         {}", delivery.alert_id);
    for other in told_alert_ids.iter().filter(|id| **id != delivery.alert_id) {
        println!("and           {other}");
    }
    println!(
        "destination   {} ({}, {})",
        delivery.destination, delivery.destination_kind, delivery.destination_id
    );
    if delivery.destination_state != "active" {
        let reason = delivery.destination_reason.as_deref().unwrap_or("it asked for it");
        println!("which is      {}: {reason}", delivery.destination_state);
    }
    println!("event         {}", delivery.event);
    println!("created       {}", delivery.created_at);
    println!("status        {}", delivery.status);
    for earlier in &delivery.waits_for {
        println!("waits for     {earlier}");
    }
    if let Some(next) = delivery.next_attempt_at {
        println!("next attempt  {next}");
    }
    if let Some(reason) = &delivery.dead_reason {
        println!("dead because  {reason}");
    }
    println!("body          {body}");
    println!("\n{:>7}  {:<10} {:>6}  {:<28} {:>8}  what", "attempt", "outcome", "answer", "started", "ms");
    for attempt in attempts {
        let late = if attempt.late { " (late)" } else { "" };
        let took =
            attempt.started_at.zip(attempt.finished_at).map(|(from, to)| to.duration_since(from).as_millis());
        println!(
            "{:>7}  {:<10} {:>6}  {:<28} {:>8}  {}{late}",
            attempt.attempt,
            attempt.outcome,
            attempt.status_code.map(|code| code.to_string()).unwrap_or_default(),
            attempt.started_at.map(|at| at.to_string()).unwrap_or_default(),
            took.map(|ms| ms.to_string()).unwrap_or_default(),
            attempt.error.as_deref().or(attempt.warning.as_deref()).unwrap_or_default(),
        );
    }
    for action in actions {
        println!(
            "\n{}  {} by {}: {}",
            action.at,
            action.action,
            action.actor,
            action.reason.as_deref().unwrap_or_default()
        );
    }
}

fn last_answer(delivery: &DeliveryEntry) -> String {
    let code = delivery.last_status_code.map(|code| code.to_string());
    let words =
        delivery.dead_reason.as_deref().or(delivery.last_error.as_deref()).or(delivery.warning.as_deref());
    let waits = waits_for(delivery);
    [code.as_deref(), words, waits.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// `waits for ..` with the ids of what must be told before it, if it waits.
pub(super) fn waits_for(delivery: &DeliveryEntry) -> Option<String> {
    let ids: Vec<String> = delivery.waits_for.iter().map(Uuid::to_string).collect();
    (!ids.is_empty()).then(|| format!("waits for {}", ids.join(", ")))
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
