//! What each kind of destination wants of a request, and what its answers mean. A file a kind; no I/O.

pub mod hub;
pub mod nats;
pub mod workflow_engine;

use secrecy::SecretString;

use super::send::Target;
use crate::model::destination::Kind;

/// Where requests to one of this kind go; none if it is no receiver of requests.
///
/// # Errors
/// Says what is wrong with the destination's settings.
pub fn target(kind: &Kind, secret: Option<&SecretString>) -> Result<Option<Target>, String> {
    match kind {
        Kind::Hub { url } => hub::target(url, secret).map(Some),
        Kind::WorkflowEngine { url, .. } => workflow_engine::target(url).map(Some),
        Kind::Nats {} => Ok(None),
    }
}
