//! `watchbell devices list|tag`: which devices a tenant has, and their tags. What is done is in `api::device_store`.

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{actor, table, whose};
use crate::api::actor::Actor;
use crate::api::device_store::{self, DeviceFilter, TagFilter};
use crate::api::member;
use crate::api::member::TAG_SEPARATORS;
use crate::config::Config;
use crate::db::tenant_scope;
use crate::model::tenant::TenantName;

/// What to do with devices.
#[derive(Debug, clap::Subcommand)]
pub enum DevicesCommand {
    /// List devices by name, with their tags and when they were heard
    List(ListArgs),
    /// Replace the tags of a device, which rules and silences select it by
    Tag(TagArgs),
}

/// Which devices.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// Whose name this matches; `*` stands for any run of characters
    #[arg(long)]
    pattern: Option<String>,
    /// That have this tag: `site=north`, or `site` with any value
    #[arg(long)]
    tag: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Whose name sorts behind this one
    #[arg(long)]
    after: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which tags.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("wish").required(true).multiple(false))]
pub struct TagArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// The device's own name
    device: String,
    /// All tags that it shall have
    #[arg(group = "wish", value_name = "NAME=VALUE")]
    tags: Vec<String>,
    /// It shall have none
    #[arg(long, group = "wish")]
    clear: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Does what the command line says, on standard output.
///
/// # Errors
/// Of the command.
pub async fn run(config: &Config, command: DevicesCommand) -> anyhow::Result<()> {
    match command {
        DevicesCommand::List(args) => list(config, args).await,
        DevicesCommand::Tag(args) => tag(config, &args).await,
    }
}

async fn list(config: &Config, args: ListArgs) -> anyhow::Result<()> {
    let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    let filter = DeviceFilter {
        pattern: args.pattern,
        tag: args.tag.as_deref().map(TagFilter::from),
        after: args.after,
    };
    let (devices, next) = device_store::list(&transaction, &filter, args.limit).await?;
    if args.json {
        println!("{}", json!({ "devices": devices, "next": next }));
        return Ok(());
    }
    let rows = devices.into_iter().map(|device| {
        let heard = [device.first_seen, device.last_seen].map(|at| format!("{at:.0}"));
        let [first, last] = heard;
        [device.device, first, last, device.metrics.join(","), as_text(&device.tags)]
    });
    table::print(&mut std::io::stdout(), ["DEVICE", "FIRST SEEN", "LAST SEEN", "METRICS", "TAGS"], rows)?;
    if let Some(next) = next {
        println!("there are more: --after {next:?}");
    }
    Ok(())
}

async fn tag(config: &Config, args: &TagArgs) -> anyhow::Result<()> {
    let mut tags = serde_json::Map::new();
    for text in &args.tags {
        let (name, value) =
            text.split_once(TAG_SEPARATORS).with_context(|| format!("`{text}` is not such as site=north"))?;
        if tags.insert(name.to_owned(), value.into()).is_some() {
            bail!("the tag `{name}` is given twice");
        }
    }
    let tags = member::tags(Value::Object(tags)).map_err(|bad| bad.inside("tags"))?;
    let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
    let actor = Actor { tenant, name: actor::name() };
    let Some(tags) = device_store::set_tags(&mut connection, &actor, &args.device, &tags).await? else {
        bail!(
            "tenant `{}` has no device `{}`; one is there from its first reading on",
            args.tenant,
            args.device
        );
    };
    if args.json {
        println!("{}", json!({ "device": args.device, "tags": tags }));
    } else {
        println!("{}  {}", args.device, as_text(&json!(tags)));
    }
    Ok(())
}

/// `floor=2 site=north`, or `-`.
fn as_text(tags: &Value) -> String {
    let tags = tags.as_object().into_iter().flatten();
    if tags.clone().next().is_none() {
        return "-".to_owned();
    }
    let tag = |(name, value): (&String, &Value)| format!("{name}={}", value.as_str().unwrap_or_default());
    tags.map(tag).collect::<Vec<_>>().join(" ")
}
