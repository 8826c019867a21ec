//! `watchbell keys`: makes, lists and revokes API keys. It prints; what is done is in `api::key_store`.

use std::io::Write;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;

use super::actor;
use crate::api::key::prefix_in;
use crate::api::key_store::{self, NewKey, Revocation};
use crate::api::scope::{Scope, Scopes};
use crate::config::Config;
use crate::db::{migrations, pool};
use crate::model::tenant::TenantName;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Make a key; it is printed once and can't be shown again
    Create(CreateArgs),
    /// List keys, without what is secret of them
    List(ListArgs),
    /// Revoke a key: requests with it are refused from the next one on
    Revoke(RevokeArgs),
}

/// A key to make.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// The tenant whose data the key opens
    #[arg(long, value_parser = TenantName::parse)]
    pub tenant: TenantName,
    /// What the key is for, for people
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: String,
    /// What the key may do: read, write, publish, admin
    #[arg(long, value_delimiter = ',', default_value = "read")]
    pub scopes: Vec<Scope>,
    /// The key ends after this many days; without it, when it is revoked
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=36_500))]
    pub expires_days: Option<i32>,
    /// Make the tenant if there is none of that name
    #[arg(long)]
    pub create_tenant: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Keys to list.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only the keys of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    pub tenant: Option<TenantName>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// A key to revoke.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// The 12 digits behind `wb_`; a whole key will do
    pub prefix: String,
    /// Why, for the record
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub reason: String,
}

/// Does what the command line says, on standard output and standard error.
///
/// # Errors
/// Of the command.
pub async fn run(config: &Config, command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create(args) => create(config, args).await,
        KeysCommand::List(args) => list(config, &args, &mut std::io::stdout()).await,
        KeysCommand::Revoke(args) => revoke(config, &args, &mut std::io::stdout()).await,
    }
}

/// `watchbell keys create`: the key alone goes to standard output, so that `KEY=$(watchbell keys create ..)` works.
///
/// # Errors
/// If the tenant is unknown or the database is away.
pub async fn create(config: &Config, args: CreateArgs) -> anyhow::Result<()> {
    create_to(config, args, &mut std::io::stdout(), &mut std::io::stderr()).await
}

/// [`create`], writing the key to `output` and what people want to know to `notes`.
///
/// # Errors
/// As [`create`].
pub async fn create_to(
    config: &Config,
    args: CreateArgs,
    output: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<()> {
    let mut client = connect(config).await?;
    let actor = actor::name();
    let scopes = Scopes::new(args.scopes);
    let transaction = client.transaction().await?;
    let tenant = if args.create_tenant {
        key_store::ensure_tenant(&transaction, &args.tenant, &actor).await?
    } else {
        match key_store::find_tenant(&transaction, &args.tenant).await? {
            Some(tenant) => tenant,
            None => bail!("there is no tenant `{}`; --create-tenant makes it", args.tenant),
        }
    };
    let new = NewKey {
        tenant,
        name: &args.name,
        scopes: &scopes,
        expires_in_days: args.expires_days,
        actor: &actor,
    };
    let created = key_store::create_key(&transaction, &new).await.context("failed to create the key")?;
    transaction.commit().await?;
    let (prefix, secret) = (created.key.prefix(), created.key.secret().expose_secret());
    if args.json {
        let object = serde_json::json!({
            "key": secret,
            "key_id": created.id,
            "prefix": prefix,
            "tenant": args.tenant.as_str(),
            "name": args.name,
            "scopes": scopes.to_column(),
            "expires_at": created.expires_at,
        });
        writeln!(output, "{object}")?;
        return Ok(());
    }
    let expires = created.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    writeln!(notes, "prefix   wb_{prefix}")?;
    writeln!(notes, "tenant   {}", args.tenant)?;
    writeln!(notes, "name     {}", args.name)?;
    writeln!(notes, "scopes   {scopes}")?;
    writeln!(notes, "expires  {expires}")?;
    writeln!(notes, "The key is shown this once:")?;
    writeln!(output, "{secret}")?;
    Ok(())
}

/// `watchbell keys list`
///
/// # Errors
/// If the database is away.
pub async fn list(config: &Config, args: &ListArgs, output: &mut impl Write) -> anyhow::Result<()> {
    let client = connect(config).await?;
    let keys = key_store::list_keys(&client, args.tenant.as_ref()).await?;
    if args.json {
        for key in &keys {
            writeln!(output, "{}", serde_json::to_string(key)?)?;
        }
        return Ok(());
    }
    let head = ["PREFIX", "TENANT", "STATE", "SCOPES", "EXPIRES", "NAME"].map(str::to_owned);
    let rows = keys.into_iter().map(|key| {
        let expires = key.expires_at.map_or_else(|| "never".to_owned(), |at| format!("{at:.0}"));
        [format!("wb_{}", key.prefix), key.tenant, key.state, key.scopes.join(","), expires, key.name]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            write!(output, "{cell:width$}  ")?;
        }
        writeln!(output, "{}", row[5])?;
    }
    Ok(())
}

/// `watchbell keys revoke`
///
/// # Errors
/// If there is no such key or the database is away.
pub async fn revoke(config: &Config, args: &RevokeArgs, output: &mut impl Write) -> anyhow::Result<()> {
    let Some(prefix) = prefix_in(&args.prefix) else {
        bail!("this is no key's prefix: 12 digits of 0-9 and a-f, as `watchbell keys list` shows them");
    };
    let client = connect(config).await?;
    match key_store::revoke_key(&client, prefix, &args.reason, &actor::name()).await? {
        Revocation::Revoked { tenant, name } => {
            writeln!(output, "revoked wb_{prefix} ({name}) of tenant {tenant}")?;
        }
        Revocation::RevokedBefore(at) => writeln!(output, "wb_{prefix} was revoked before, at {at:.0}")?,
        Revocation::Unknown => bail!("there is no key with the prefix wb_{prefix}"),
    }
    Ok(())
}

async fn connect(config: &Config) -> anyhow::Result<tokio_postgres::Client> {
    config.require_database()?;
    let client = pool::connect_owner(&config.database).await.context("failed to connect to the database")?;
    let pending = migrations::pending(&client).await?;
    if !pending.is_empty() {
        bail!("the database lacks {}: run `watchbell migrate`", pending.join(", "));
    }
    Ok(client)
}
