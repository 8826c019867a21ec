//! `watchbell rules`: what a tenant looks for. It reads and prints; what is done is in `api::rule_store`.

use anyhow::{Context, bail};
use deadpool_postgres::{Object, Transaction};
use serde_json::{Value, json};
use uuid::Uuid;

use super::json_input::JsonInput;
use super::{actor, rule_test, table, whose};
use crate::api::actor::Actor;
use crate::api::parameters::PageRequest;
use crate::api::rule_draft::RuleDraft;
use crate::api::rule_store::{self, RuleEntry, RuleFilter, STATES, VersionEntry};
use crate::config::Config;
use crate::db::tenant_scope;
use crate::model::tenant::TenantName;

/// What to do with rules.
#[derive(Debug, clap::Subcommand)]
pub enum RulesCommand {
    /// List rules, the newest first: what they watch, and how many destinations they tell
    List(ListArgs),
    /// Show one rule, and each of its versions
    Show(ShowArgs),
    /// Make a rule of JSON
    Create(CreateArgs),
    /// Merge JSON into a rule
    Change(ChangeArgs),
    /// Archive a rule: it judges nothing any more, and its alerts are resolved
    Archive(ShowArgs),
    /// Judge a rule against given points, and explain; nothing is stored
    Test(rule_test::TestArgs),
}

/// Which rules.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// In this state; without it all that are not archived
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// That watch this metric
    #[arg(long)]
    metric: Option<String>,
    /// With this name
    #[arg(long)]
    name: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Older than the rule with this id
    #[arg(long)]
    before: Option<Uuid>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which rule.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// Its id, or its name
    rule: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A rule to make.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    #[command(flatten)]
    input: JsonInput,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A rule to change.
#[derive(Debug, clap::Args)]
pub struct ChangeArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// Its id, or its name
    rule: String,
    #[command(flatten)]
    input: JsonInput,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Does what the command line says, on standard output.
///
/// # Errors
/// Of the command.
pub async fn run(config: &Config, command: RulesCommand) -> anyhow::Result<()> {
    match command {
        RulesCommand::List(args) => list(config, args).await,
        RulesCommand::Show(args) => show(config, &args).await,
        RulesCommand::Create(args) => create(config, &args).await,
        RulesCommand::Change(args) => change(config, &args).await,
        RulesCommand::Archive(args) => archive(config, &args).await,
        RulesCommand::Test(args) => rule_test::run(config, &args).await,
    }
}

async fn list(config: &Config, args: ListArgs) -> anyhow::Result<()> {
    let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    let filter = RuleFilter { rule_id: None, state: args.state, metric: args.metric, name: args.name };
    let page =
        rule_store::list(&transaction, &filter, PageRequest { limit: args.limit, before: args.before })
            .await?;
    if args.json {
        println!("{}", json!({ "rules": page.rows, "next": page.next }));
        return Ok(());
    }
    let head = ["RULE", "VERSION", "STATE", "SEVERITY", "METRIC", "DEVICES", "TELLS", "NAME"];
    table::print(&mut std::io::stdout(), head, page.rows.iter().map(row))?;
    if let Some(next) = page.next {
        println!("there are older ones: --before {next}");
    }
    Ok(())
}

async fn show(config: &Config, args: &ShowArgs) -> anyhow::Result<()> {
    let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    let rule = named(&transaction, &args.rule, &args.tenant).await?;
    let versions = rule_store::versions(&transaction, rule.rule_id).await?;
    if args.json {
        let mut whole = serde_json::to_value(&rule)?;
        whole["versions"] = json!(versions);
        println!("{whole}");
        return Ok(());
    }
    print_rule(&rule);
    println!();
    let version = |version: VersionEntry| {
        let definition = Value::Object(version.definition).to_string();
        [version.version.to_string(), format!("{:.0}", version.changed_at), version.changed_by, definition]
    };
    let head = ["VERSION", "CHANGED", "BY", "DEFINITION"];
    table::print(&mut std::io::stdout(), head, versions.into_iter().map(version))?;
    Ok(())
}

async fn create(config: &Config, args: &CreateArgs) -> anyhow::Result<()> {
    let draft = RuleDraft::parse(args.input.read()?)?;
    let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
    let actor = Actor { tenant, name: actor::name() };
    print(&rule_store::create(&mut connection, &actor, &draft).await?, args.json)
}

async fn change(config: &Config, args: &ChangeArgs) -> anyhow::Result<()> {
    let patch = args.input.read()?;
    let (mut connection, rule, actor) = find(config, &args.tenant, &args.rule).await?;
    print(&rule_store::change(&mut connection, &actor, rule, patch).await?, args.json)
}

async fn archive(config: &Config, args: &ShowArgs) -> anyhow::Result<()> {
    let (mut connection, rule, actor) = find(config, &args.tenant, &args.rule).await?;
    print(&rule_store::archive(&mut connection, &actor, rule).await?, args.json)
}

/// A connection, the rule that somebody means, and who that is.
async fn find(config: &Config, tenant: &TenantName, rule: &str) -> anyhow::Result<(Object, Uuid, Actor)> {
    let (mut connection, tenant_id) = whose::named(config, tenant).await?;
    let transaction = tenant_scope::begin(&mut connection, tenant_id.0).await?;
    let rule = named(&transaction, rule, tenant).await?.rule_id;
    transaction.commit().await?;
    Ok((connection, rule, Actor { tenant: tenant_id, name: actor::name() }))
}

/// The rule with this id, or the one that is not archived with this name.
///
/// # Errors
/// If there is none, or the database is away.
pub async fn named(
    transaction: &Transaction<'_>,
    rule: &str,
    tenant: &TenantName,
) -> anyhow::Result<RuleEntry> {
    let found = match Uuid::parse_str(rule) {
        Ok(id) => rule_store::find(transaction, id).await?,
        Err(_) => {
            let filter = RuleFilter { name: Some(rule.to_owned()), ..RuleFilter::default() };
            rule_store::list(transaction, &filter, PageRequest::newest(1)).await?.rows.into_iter().next()
        }
    };
    match found {
        Some(rule) => Ok(rule),
        None => bail!("tenant `{tenant}` has no rule `{rule}`; archived ones are named by their id"),
    }
}

fn print(rule: &RuleEntry, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(rule).context("failed to print the rule")?);
    } else {
        print_rule(rule);
    }
    Ok(())
}

fn print_rule(rule: &RuleEntry) {
    println!("{:<22} {}", "rule_id", rule.rule_id);
    println!("{:<22} {}", "version", rule.version);
    println!("{:<22} {}", "state", rule.state);
    if let Some(fault) = &rule.fault {
        println!("{:<22} {fault}", "fault");
    }
    for name in crate::api::rule_draft::MEMBERS {
        println!("{name:<22} {}", text(rule.definition.get(name)));
    }
    println!("{:<22} {:.0}", "created_at", rule.created_at);
    println!("{:<22} {:.0}", "updated_at", rule.updated_at);
    for warning in &rule.warnings {
        println!("WARNING: {warning}");
    }
}

fn row(rule: &RuleEntry) -> [String; 8] {
    let member = |name: &str| text(rule.definition.get(name));
    let devices = rule.definition.get("devices");
    let devices =
        devices.and_then(Value::as_object).into_iter().flatten().map(|(name, value)| match name.as_str() {
            "pattern" => text(Some(value)),
            "ids" => format!("{} ids", value.as_array().map_or(0, Vec::len)),
            _ => text(Some(value)),
        });
    let tells = match rule.listening {
        0 if rule.state != "archived" => "NOBODY".to_owned(),
        listening => listening.to_string(),
    };
    [
        rule.rule_id.to_string(),
        rule.version.to_string(),
        rule.state.clone(),
        member("severity"),
        member("metric"),
        devices.collect::<Vec<_>>().join(" "),
        tells,
        member("name"),
    ]
}

/// A text as it is, `-` for nothing, and JSON of all else.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}
