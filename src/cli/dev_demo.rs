//! The demo tenant of `watchbell dev up`: its key, its destination, its rules; and the secrets that are kept between runs.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::api::key_store::{self, NewKey};
use crate::api::scope::{Scope, Scopes};
use crate::deliver::secrets::SecretKey;
use crate::dev::token::random_hex;
use crate::model::condition::Check;
use crate::model::ids::DestinationId;
use crate::model::tenant::TenantName;

const UPSERT_DESTINATION: &str = include_str!("../../sql/queries/demo/upsert_destination.sql");
const INSERT_RULE: &str = include_str!("../../sql/queries/demo/insert_rule.sql");

/// The tenant's name.
pub const TENANT: &str = "demo";

const ACTOR: &str = "dev up";
/// The simulator's; what else somebody publishes has rules of its own.
const DEVICES: &str = "pump-*";
/// Short, so that there is something to see.
const COOLDOWN_SECONDS: i32 = 30;

/// What the demo keeps between runs, in a file that only its user can read.
#[derive(Serialize, Deserialize)]
pub struct DemoSecrets {
    /// `secrets.key` of the service.
    pub secrets_key: String,
    /// What the demo receiver asks for.
    pub hub_key: String,
    /// The tenant's API key, once it is made.
    pub api_key: Option<String>,
}

impl DemoSecrets {
    /// Reads them, or makes them.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn load_or_make(path: &Path) -> anyhow::Result<Self> {
        if path.exists() {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            return serde_json::from_str(&text).with_context(|| {
                format!("{} is damaged; remove it and its directory to begin anew", path.display())
            });
        }
        let secrets = Self { secrets_key: random_hex(32)?, hub_key: random_hex(16)?, api_key: None };
        secrets.save(path)?;
        Ok(secrets)
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        write_private(path, &serde_json::to_string(self)?)
    }
}

/// Writes a file that only its user can read; whole, or not at all.
///
/// # Errors
/// If it can't be written.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path).with_context(|| format!("failed to write {}", path.display()))
}

/// Makes the tenant, its key, its destination at `hub_url` and its rules, where they are missing. Returns the key.
///
/// # Errors
/// If the database is away.
pub async fn seed(
    client: &mut Client,
    secrets: &mut DemoSecrets,
    secrets_path: &Path,
    hub_url: &str,
) -> anyhow::Result<SecretString> {
    let tenant = key_store::ensure_tenant(client, &TenantName::parse(TENANT)?, ACTOR).await?;
    if secrets.api_key.is_none() {
        let scopes = Scopes::new([Scope::Admin]);
        let new = NewKey { tenant, name: "demo", scopes: &scopes, expires_in_days: None, actor: ACTOR };
        let created = key_store::create_key(client, &new).await?;
        secrets.api_key = Some(created.key.secret().expose_secret().to_owned());
        secrets.save(secrets_path)?;
    }
    let hub = ensure_hub(client, tenant.0, secrets, hub_url).await?;
    let rules = [
        ("pump runs hot", "temperature", Check::AboveThreshold { threshold: 80.0, clear: None }, "critical"),
        ("pressure lost", "pressure", Check::BelowThreshold { threshold: 1.0, clear: None }, "warning"),
    ];
    for (name, metric, condition, severity) in rules {
        let condition = serde_json::to_value(&condition)?;
        let destinations = [hub.0];
        client
            .execute(
                INSERT_RULE,
                &[
                    &Uuid::now_v7(),
                    &tenant.0,
                    &name,
                    &metric,
                    &condition,
                    &severity,
                    &COOLDOWN_SECONDS,
                    &destinations.as_slice(),
                    &DEVICES,
                ],
            )
            .await?;
    }
    Ok(secrets.api_key.clone().unwrap_or_default().into())
}

/// The receiver may listen on another port at every run: the destination follows it.
async fn ensure_hub(
    client: &Client,
    tenant: i32,
    secrets: &DemoSecrets,
    hub_url: &str,
) -> anyhow::Result<DestinationId> {
    let key =
        SecretKey::parse(&secrets.secrets_key.clone().into())?.context("the demo has no secrets.key")?;
    let known = client
        .query_opt(
            "SELECT destination_id FROM destinations WHERE tenant_id = $1 AND name = 'demo hub'",
            &[&tenant],
        )
        .await?;
    let id = known.map_or_else(DestinationId::new, |row| DestinationId(row.get(0)));
    let sealed = key.seal(id, &secrets.hub_key.clone().into())?;
    let settings = json!({ "url": hub_url });
    client.execute(UPSERT_DESTINATION, &[&id.0, &tenant, &"demo hub", &"hub", &settings, &sealed]).await?;
    Ok(id)
}
