//! The way to PostgreSQL: pools a role, migrations, partitions, leases. It knows no business table.

pub mod error;
pub mod lease;
pub mod migrations;
pub mod partitions;
pub mod pool;
pub mod tenant_scope;
pub mod transaction;
