//! Rows to look at: a tenant with a key, a device, a rule, a destination, and alerts with notifications.

use secrecy::ExposeSecret;
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::api::key_store::{self, NewKey};
use watchbell::api::scope::{Scope, Scopes};
use watchbell::model::ids::TenantId;
use watchbell::model::tenant::TenantName;

/// A tenant and what belongs to it.
pub struct House {
    pub tenant: TenantId,
    pub key: String,
    pub rule: Uuid,
    pub destination: Uuid,
    pub series: i32,
}

impl House {
    /// A tenant with a device `<name>-pump`, a rule `<name>-hot` on `temperature` and a destination `<name>-hub`.
    pub async fn build(owner: &Client, name: &str) -> Self {
        let tenant =
            key_store::ensure_tenant(owner, &TenantName::parse(name).unwrap(), "test").await.unwrap();
        let key = key_with(owner, tenant, &[Scope::Read]).await;
        let (rule, destination) = (Uuid::now_v7(), Uuid::now_v7());
        let device: i32 = owner
            .query_one(
                "INSERT INTO devices (tenant_id, external_id) VALUES ($1, $2) RETURNING device_id",
                &[&tenant.0, &format!("{name}-pump")],
            )
            .await
            .unwrap()
            .get(0);
        let series: i32 = owner
            .query_one(
                "INSERT INTO series (tenant_id, device_id, metric, unit) VALUES ($1, $2, 'temperature', '°C')
                 RETURNING series_id",
                &[&tenant.0, &device],
            )
            .await
            .unwrap()
            .get(0);
        owner
            .execute(
                "INSERT INTO destinations (destination_id, tenant_id, name, kind, settings, secret)
                 VALUES ($1, $2, $3, 'hub', '{\"url\": \"https://hub.example\"}', 'sealed')",
                &[&destination, &tenant.0, &format!("{name}-hub")],
            )
            .await
            .unwrap();
        owner
            .execute(
                "INSERT INTO rules (rule_id, tenant_id, name, metric, condition, severity, destination_ids)
                 VALUES ($1, $2, $3, 'temperature', '{\"kind\": \"above_threshold\", \"threshold\": 80}', 'critical',
                         ARRAY[$4::uuid])",
                &[&rule, &tenant.0, &format!("{name}-hot"), &destination],
            )
            .await
            .unwrap();
        Self { tenant, key, rule, destination, series }
    }

    /// An open alert with its `opened` event; returns its id.
    pub async fn alert(&self, owner: &Client) -> Uuid {
        let alert = Uuid::now_v7();
        owner
            .execute(
                "INSERT INTO alerts (alert_id, tenant_id, rule_id, rule_version, series_id, severity, breached_at,
                                     value, evidence)
                 VALUES ($1, $2, $3, 1, $4, 'critical', clock_timestamp(), 81.5,
                         '{\"condition\": \"above_threshold\", \"threshold\": 80}')",
                &[&alert, &self.tenant.0, &self.rule, &self.series],
            )
            .await
            .unwrap();
        owner
            .execute(
                "INSERT INTO alert_events (alert_id, tenant_id, kind, actor, happened_at, disposition)
                 VALUES ($1, $2, 'opened', 'detector', clock_timestamp(), 'notified')",
                &[&alert, &self.tenant.0],
            )
            .await
            .unwrap();
        alert
    }

    /// A notification that is owed; returns its id.
    pub async fn notification(&self, owner: &Client, alert: Uuid) -> Uuid {
        let notification = Uuid::now_v7();
        owner
            .execute(
                "INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, body)
                 VALUES ($1, $2, $3, $4, 'opened', '{\"text\": \"<b>81.5 °C</b>\"}')",
                &[&notification, &self.tenant.0, &alert, &self.destination],
            )
            .await
            .unwrap();
        owner
            .execute(
                "INSERT INTO outbox (notification_id, destination_id, tenant_id) VALUES ($1, $2, $3)",
                &[&notification, &self.destination, &self.tenant.0],
            )
            .await
            .unwrap();
        notification
    }

    /// An attempt on record.
    pub async fn attempt(&self, owner: &Client, notification: Uuid, number: i32, late: bool, outcome: &str) {
        owner
            .execute(
                "INSERT INTO delivery_attempts (notification_id, attempt, late, tenant_id, destination_id, outcome,
                   worker_id, started_at, finished_at, status_code, error, answer, body_sha256, external_id)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, now(), now(), 503, 'busy', '<i>no</i>',
                         sha256('body'), 'ext-1')",
                &[
                    &notification,
                    &number,
                    &late,
                    &self.tenant.0,
                    &self.destination,
                    &outcome,
                    &Uuid::now_v7(),
                ],
            )
            .await
            .unwrap();
    }

    /// Takes what is owed off the outbox, as a delivery or a death does.
    pub async fn settle(&self, owner: &Client, notification: Uuid) {
        owner.execute("DELETE FROM outbox WHERE notification_id = $1", &[&notification]).await.unwrap();
    }
}

/// A key with these scopes.
pub async fn key_with(owner: &Client, tenant: TenantId, scopes: &[Scope]) -> String {
    let scopes = Scopes::new(scopes.iter().copied());
    let new = NewKey { tenant, name: "test", scopes: &scopes, expires_in_days: None, actor: "test" };
    key_store::create_key(owner, &new).await.unwrap().key.secret().expose_secret().to_owned()
}
