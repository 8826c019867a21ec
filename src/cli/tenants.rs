//! `watchbell tenants`: what each tenant has and may have. It prints; what is done is in `api::tenant_store`.

use std::io::Write;

use anyhow::bail;

use super::{actor, whose};
use crate::api::tenant_store::{self, ListedTenant, NewQuotas};
use crate::config::Config;
use crate::model::tenant::TenantName;

/// What to do with tenants.
#[derive(Debug, clap::Subcommand)]
pub enum TenantsCommand {
    /// List tenants, with what they have of devices and series and what they may have
    List(ListArgs),
    /// Set how many devices and series a tenant may have; what it has stays
    Set(SetArgs),
}

/// How to print it.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Quotas to set.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("quota").required(true).multiple(true))]
pub struct SetArgs {
    /// The tenant
    #[arg(value_parser = TenantName::parse)]
    name: TenantName,
    /// Devices that it may have
    #[arg(long, group = "quota", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    max_devices: Option<i32>,
    /// Series (a metric of a device) that it may have
    #[arg(long, group = "quota", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    max_series: Option<i32>,
    /// Why, for the record
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Does what the command line says, on standard output.
///
/// # Errors
/// Of the command.
pub async fn run(config: &Config, command: TenantsCommand) -> anyhow::Result<()> {
    let client = whose::connect(config).await?;
    let output = &mut std::io::stdout();
    match command {
        TenantsCommand::List(args) => print(&tenant_store::list_tenants(&client).await?, args.json, output),
        TenantsCommand::Set(args) => {
            let new = NewQuotas {
                max_devices: args.max_devices,
                max_series: args.max_series,
                reason: args.reason.as_deref(),
                actor: &actor::name(),
            };
            match tenant_store::set_quotas(&client, &args.name, &new).await? {
                Some(tenant) => print(&[tenant], args.json, output),
                None => bail!("there is no tenant `{}`", args.name),
            }
        }
    }
}

fn print(tenants: &[ListedTenant], json: bool, output: &mut impl Write) -> anyhow::Result<()> {
    if json {
        for tenant in tenants {
            writeln!(output, "{}", serde_json::to_string(tenant)?)?;
        }
        return Ok(());
    }
    let width = tenants.iter().map(|tenant| tenant.tenant.len()).max().unwrap_or(0).max("TENANT".len());
    let head = ["DEVICES", "OF", "SERIES", "OF"];
    writeln!(
        output,
        "{:width$}  {:>10}  {:>10}  {:>10}  {:>10}  CREATED",
        "TENANT", head[0], head[1], head[2], head[3]
    )?;
    for of in tenants {
        writeln!(
            output,
            "{:width$}  {:>10}  {:>10}  {:>10}  {:>10}  {:.0}",
            of.tenant, of.devices, of.max_devices, of.series, of.max_series, of.created_at
        )?;
    }
    Ok(())
}
