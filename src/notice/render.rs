//! From what happened to the exact bytes that a destination of some kind is sent.

use super::told::{GroupNotice, Notice};
use super::{event, hub};
use crate::model::destination::Kind;

/// The body for a destination of this kind.
pub fn render(kind: &Kind, notice: &Notice<'_>) -> String {
    match kind {
        Kind::Hub { .. } => hub::render(notice),
        Kind::WorkflowEngine { .. } | Kind::Nats {} => event::render(notice),
    }
}

/// The same, of what happened to many alerts at once.
pub fn render_group(kind: &Kind, group: &GroupNotice<'_>) -> String {
    match kind {
        Kind::Hub { .. } => hub::render_group(group),
        Kind::WorkflowEngine { .. } | Kind::Nats {} => event::render_group(group),
    }
}
