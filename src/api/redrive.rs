//! `POST /api/admin/notifications/{id}/redrive`: sends a dead notification again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::auth::Admin;
use super::json_body::JsonBody;
use super::parameters::PathId;
use super::problem::Problem;
use super::state::ApiState;
use crate::db::tenant_scope;
use crate::model::ids::NotificationId;
use crate::outbox::redrive::{OVERTAKEN, Reason, Redriven, redrive};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    reason: String,
    #[serde(default)]
    force: bool,
}

/// The answer: it is owed again.
#[derive(Debug, Serialize)]
pub(super) struct Accepted {
    notification_id: Uuid,
    status: &'static str,
}

/// `POST /api/admin/notifications/{id}/redrive` with `{"reason": ".."}`; `"force": true` although what came after it was told
pub(super) async fn post(
    State(state): State<ApiState>,
    Admin(caller): Admin,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let wish: Wish = body.read(r#"{"reason": "the hub is back"}"#)?;
    let reason = Reason::parse(&wish.reason)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let actor = caller.actor();
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin_change(&mut connection, caller.tenant_id.0).await?;
    match redrive(&*transaction, NotificationId(id), &actor, &reason, wish.force).await? {
        Redriven::Owed => {
            transaction.commit().await.map_err(crate::db::error::DatabaseError::from)?;
            tracing::info!(tenant = caller.tenant, notification_id = %id, actor, "redriven");
            Ok((StatusCode::ACCEPTED, Json(Accepted { notification_id: id, status: "pending" })))
        }
        Redriven::Overtaken => {
            let detail = format!(r#"{OVERTAKEN}; say {{"force": true}} to send it all the same"#);
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Redriven::NotDead(status) => {
            let detail = format!("the notification is `{status}`; only a dead one can be sent again");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Redriven::Unknown => Err(Problem::not_found("notification")),
    }
}
