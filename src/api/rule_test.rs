//! `POST /api/rules/{id}/test` and `POST /api/rules/test`: what a rule would make of given points. Nothing is written.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::auth::Reader;
use super::explain::{Explanation, explain};
use super::json_body::JsonBody;
use super::member::{BadMember, Members};
use super::parameters::PathId;
use super::problem::Problem;
use super::rule_draft::RuleDraft;
use super::rule_store::{self, RuleEntry};
use super::state::ApiState;
use super::trial::Trial;
use crate::db::tenant_scope;

/// The answer.
#[derive(Debug, Serialize)]
pub struct Tested {
    /// Which rule; `None`: one that is not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_id: Option<Uuid>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// Its name.
    pub name: String,
    /// What it would have made of the points.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// Why a rule could not be tested.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// A member can't be used.
    #[error(transparent)]
    Bad(#[from] BadMember),
    /// The rule as it is stored makes no sense.
    #[error("the rule can't be judged as it is stored, change it first: {0}")]
    Faulted(BadMember),
    /// Judging it failed.
    #[error("judging the points failed in the rule: a service would mark it faulted")]
    Panicked,
}

impl From<TestError> for Problem {
    fn from(error: TestError) -> Self {
        match error {
            TestError::Bad(bad) => bad.into(),
            TestError::Faulted(_) | TestError::Panicked => Self::new(StatusCode::CONFLICT, error.to_string()),
        }
    }
}

/// Judges a stored rule against `{"points": [..], "until": ..}`.
///
/// # Errors
/// [`TestError`]
pub fn test_stored(rule: RuleEntry, body: Value) -> Result<Tested, TestError> {
    let mut members = Members::open(body, &["points", "until"])?;
    let trial = trial(&mut members)?;
    let (rule_id, version) = (rule.rule_id, rule.version);
    let draft = RuleDraft::parse(Value::Object(rule.definition)).map_err(TestError::Faulted)?;
    let tested = test(&draft, &trial)?;
    Ok(Tested { rule_id: Some(rule_id), version: Some(version), ..tested })
}

/// Judges the rule of `{"rule": {..}, "points": [..], "until": ..}`.
///
/// # Errors
/// [`TestError`]
pub fn test_draft(body: Value) -> Result<Tested, TestError> {
    let mut members = Members::open(body, &["rule", "points", "until"])?;
    let mut rule = members.require("rule", "a rule as POST /api/rules takes it")?;
    if let Value::Object(rule) = &mut rule {
        // What is only tried out needs no name, and is not so bad.
        rule.entry("name").or_insert_with(|| json!("a rule that is not stored"));
        rule.entry("severity").or_insert_with(|| json!("info"));
    }
    let draft = RuleDraft::parse(rule).map_err(|bad| bad.inside("rule"))?;
    let trial = trial(&mut members)?;
    test(&draft, &trial)
}

fn trial(members: &mut Members) -> Result<Trial, BadMember> {
    let points =
        members.require("points", "a list such as [{\"ts\": \"2026-11-21T03:00:00Z\", \"value\": 81.5}]")?;
    Trial::parse(points, members.take("until").as_ref())
}

fn test(draft: &RuleDraft, trial: &Trial) -> Result<Tested, TestError> {
    let explanation = explain(draft, trial).map_err(|_| TestError::Panicked)?;
    Ok(Tested { rule_id: None, version: None, name: draft.name.clone(), explanation })
}

/// `POST /api/rules/{id}/test`
pub(super) async fn post_stored(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    PathId(id): PathId,
    JsonBody(body): JsonBody,
) -> Result<Json<Tested>, Problem> {
    let rule = {
        let mut connection = state.pool.get().await?;
        let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
        rule_store::find(&transaction, id).await?.ok_or_else(|| Problem::not_found("rule"))?
    };
    aside(move || test_stored(rule, body)).await
}

/// `POST /api/rules/test`
pub(super) async fn post_draft(
    State(_): State<ApiState>,
    Reader(_): Reader,
    JsonBody(body): JsonBody,
) -> Result<Json<Tested>, Problem> {
    aside(move || test_draft(body)).await
}

/// Ten thousand points against a day of minutes each take a while, and there are others to be answered.
async fn aside(
    work: impl FnOnce() -> Result<Tested, TestError> + Send + 'static,
) -> Result<Json<Tested>, Problem> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "testing a rule failed");
        Problem::internal()
    })?;
    Ok(Json(done?))
}
