//! A destination: where people are told.

use serde::{Deserialize, Serialize};

use super::ids::{DestinationId, TenantId};

/// What kind of receiver it is; with the settings that everybody may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// The notification hub: `POST {url}/api/events` with the header `X-API-Key`.
    Hub {
        /// The hub's base address, such as `https://hub.example`.
        url: String,
    },
    /// The workflow engine: `POST {url}`, signed when the destination has a secret.
    WorkflowEngine {
        /// The webhook's whole address, such as `https://engine.example/webhooks/page`.
        url: String,
        /// Whether to send again when no answer came after the bytes went out: the engine never removes duplicates, so
        /// the workflow may run twice; without it the page may be lost.
        #[serde(default = "yes")]
        repeat_ambiguous: bool,
    },
    /// An event on `alerts.<tenant>`, on JetStream.
    Nats {},
}

fn yes() -> bool {
    true
}

impl Kind {
    /// As it stands in `destinations.kind`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Hub { .. } => "hub",
            Self::WorkflowEngine { .. } => "workflow_engine",
            Self::Nats {} => "nats",
        }
    }

    /// Joins the columns `kind` and `settings`.
    ///
    /// # Errors
    /// Says what is wrong with the settings, or that the kind is unknown.
    pub fn from_columns(kind: &str, settings: &serde_json::Value) -> Result<Self, serde_json::Error> {
        let mut tagged = settings.clone();
        if let Some(fields) = tagged.as_object_mut() {
            fields.insert("kind".to_owned(), kind.into());
        }
        serde_json::from_value(tagged)
    }
}

/// A destination as detection needs it: which, whose, and of what kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// Which.
    pub id: DestinationId,
    /// Whose.
    pub tenant: TenantId,
    /// For people.
    pub name: String,
    /// Kind and settings.
    pub kind: Kind,
}
