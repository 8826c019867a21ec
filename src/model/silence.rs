//! A silence: somebody does not want to be told of some alerts for a while.

use super::ids::{RuleId, SilenceId, TenantId};
use super::reading::UnixMicros;
use super::selector::Selector;

/// A silence as detection holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Silence {
    /// Which.
    pub id: SilenceId,
    /// Whose.
    pub tenant: TenantId,
    /// Alerts of this rule; `None`: of any.
    pub rule: Option<RuleId>,
    /// Of these devices.
    pub devices: Selector,
    /// From then on.
    pub starts_at: UnixMicros,
    /// Until then.
    pub ends_at: UnixMicros,
}
