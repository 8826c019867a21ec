//! `watchbell rules test`: what a rule would make of given points. It reads and prints; `api::rule_test` judges.

use std::io::Write;

use super::json_input::JsonInput;
use super::{rules, table, whose};
use crate::api::explain::{JudgedPoint, Step};
use crate::api::rule_test::{Tested, test_draft, test_stored};
use crate::config::Config;
use crate::db::tenant_scope;
use crate::model::tenant::TenantName;

/// What to judge with what.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Of this tenant
    #[arg(long, value_parser = TenantName::parse)]
    tenant: TenantName,
    /// The rule's id, or its name; without it the JSON has the rule, as `rule`
    rule: Option<String>,
    #[command(flatten)]
    input: JsonInput,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Judges what the JSON holds: `{"points": [{"ts": .., "value": ..}, ..], "until": ..}`.
///
/// # Errors
/// If there is no such rule, the JSON can't be used, or the database is away.
pub async fn run(config: &Config, args: &TestArgs) -> anyhow::Result<()> {
    let body = args.input.read()?;
    let tested = match &args.rule {
        None => test_draft(body)?,
        Some(rule) => {
            let (mut connection, tenant) = whose::named(config, &args.tenant).await?;
            let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
            test_stored(rules::named(&transaction, rule, &args.tenant).await?, body)?
        }
    };
    if args.json {
        println!("{}", serde_json::to_string(&tested)?);
        return Ok(());
    }
    Ok(print(&tested, &mut std::io::stdout())?)
}

fn print(tested: &Tested, output: &mut impl Write) -> std::io::Result<()> {
    let explanation = &tested.explanation;
    table::print(output, ["POINT", "VALUE", "JUDGEMENT", "WHY, AND WHAT IT LEADS TO"], {
        explanation.points.iter().map(|point| {
            let judgement = format!("{:?}", point.judgement).to_lowercase();
            [point.ts.to_string(), point.value.to_string(), judgement, words(point)]
        })
    })?;
    for step in &explanation.afterwards {
        writeln!(output, "afterwards: {}", step_in_words(step))?;
    }
    for alert in &explanation.alerts {
        writeln!(output, "alert {} ({}): {}", alert.alert, alert.severity, alert.summary)?;
    }
    writeln!(output, "{}", explanation.summary.text)
}

fn words(point: &JudgedPoint) -> String {
    let evidence = point.evidence.as_ref().and_then(|evidence| serde_json::to_string(evidence).ok());
    let steps = point.leads_to.iter().map(step_in_words);
    point.why.clone().into_iter().chain(evidence).chain(steps).collect::<Vec<_>>().join("; ")
}

fn step_in_words(step: &Step) -> String {
    let aside =
        step.disposition.or(step.note.as_deref()).map(|text| format!(" ({text})")).unwrap_or_default();
    format!("alert {} {} at {}{aside}", step.alert, step.what.replace('_', " "), step.at)
}
