//! `GET /api/devices` and `PUT /api/devices/{device}/tags`.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde::Serialize;

use super::actor::Actor;
use super::auth::{Reader, Writer};
use super::device_store::{self, DeviceEntry, DeviceFilter, TagFilter};
use super::json_body::JsonBody;
use super::member;
use super::parameters::Parameters;
use super::problem::Problem;
use super::state::ApiState;
use crate::db::tenant_scope;
use crate::model::selector::Tags;

/// The answer of `GET /api/devices`.
#[derive(Debug, Serialize)]
pub(super) struct DevicePage {
    devices: Vec<DeviceEntry>,
    /// What `after` must be to go on, if there are more.
    next: Option<String>,
}

/// The answer of `PUT /api/devices/{device}/tags`.
#[derive(Debug, Serialize)]
pub(super) struct Tagged {
    device: String,
    tags: Tags,
}

/// The device's own name in the path.
#[derive(Debug)]
pub(super) struct PathDevice(String);

impl<S: Send + Sync> FromRequestParts<S> for PathDevice {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(device)) if !device.contains('\0') => Ok(Self(device)),
            _ => Err(Problem::bad_parameter("device", "a text in UTF-8 that holds no NUL")),
        }
    }
}

/// `GET /api/devices`, by name.
pub(super) async fn get_list(
    State(state): State<ApiState>,
    Reader(caller): Reader,
    parameters: Parameters,
) -> Result<Json<DevicePage>, Problem> {
    let parameters = parameters.only(&["pattern", "tag", "limit", "after"])?;
    let filter = DeviceFilter {
        pattern: parameters.text("pattern"),
        tag: parameters.text("tag").as_deref().map(TagFilter::from),
        after: parameters.text("after"),
    };
    let limit = parameters.page()?.limit;
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, caller.tenant_id.0).await?;
    let (devices, next) = device_store::list(&transaction, &filter, limit).await?;
    Ok(Json(DevicePage { devices, next }))
}

/// `PUT /api/devices/{device}/tags` with all tags that it shall have.
pub(super) async fn put_tags(
    State(state): State<ApiState>,
    Writer(caller): Writer,
    PathDevice(device): PathDevice,
    JsonBody(body): JsonBody,
) -> Result<Json<Tagged>, Problem> {
    let tags = member::tags(body)?;
    let mut connection = state.pool.get().await?;
    let set = device_store::set_tags(&mut connection, &Actor::from(&caller), &device, &tags).await?;
    let tags = set.ok_or_else(|| Problem::not_found("device; one is there from its first reading on"))?;
    Ok(Json(Tagged { device, tags }))
}
