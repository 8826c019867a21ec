//! `watchbell redrive ID --reason TEXT [--force]`: sends a dead notification again.

use anyhow::{Context, bail};
use serde_json::json;
use uuid::Uuid;

use super::actor;
use crate::config::Config;
use crate::db::pool::{Pool, Role};
use crate::db::tenant_scope;
use crate::model::ids::NotificationId;
use crate::outbox::redrive::{OVERTAKEN, Reason, Redriven, redrive};

const TENANT_OF: &str = include_str!("../../sql/queries/outbox/tenant_of_notification.sql");

/// What to send again.
#[derive(Debug, clap::Args)]
pub struct RedriveArgs {
    /// The notification's id
    id: Uuid,
    /// Why, for the record
    #[arg(long, value_parser = Reason::parse)]
    reason: Reason,
    /// Although what came after it was told already
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Owes it again; a worker sends it within a second.
///
/// # Errors
/// If there is no such notification, it is not dead, or the database is away.
pub async fn run(config: &Config, args: &RedriveArgs) -> anyhow::Result<()> {
    let tenant = tenant_of(config, args.id).await?;
    let pool = Pool::new(&config.database, Role::Api, 1)?;
    let mut connection = pool.get().await?;
    let transaction = tenant_scope::begin_change(&mut connection, tenant).await?;
    match redrive(&*transaction, NotificationId(args.id), &actor::name(), &args.reason, args.force).await? {
        Redriven::Owed => transaction.commit().await?,
        Redriven::Overtaken => bail!("{OVERTAKEN}; --force sends it all the same"),
        Redriven::NotDead(status) => {
            bail!("notification {} is `{status}`; only a dead one can be sent again", args.id)
        }
        Redriven::Unknown => bail!("there is no notification {}", args.id),
    }
    if args.json {
        println!("{}", json!({ "notification_id": args.id, "status": "pending" }));
    } else {
        println!("notification {} is owed again", args.id);
    }
    Ok(())
}

/// The tenant that a notification belongs to: the owner of the database may ask.
///
/// # Errors
/// If there is no such notification, or the database is away.
pub async fn tenant_of(config: &Config, notification: Uuid) -> anyhow::Result<i32> {
    config.require_database()?;
    let owner = crate::db::pool::connect_owner(&config.database).await?;
    let row = owner.query_opt(TENANT_OF, &[&notification]).await?;
    Ok(row.with_context(|| format!("there is no notification {notification}"))?.get(0))
}
