//! What is owed without anybody having detected anything, and what became of it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_postgres::GenericClient;
use uuid::Uuid;
use watchbell::db::pool;
use watchbell::model::ids::DestinationId;

use super::app::TestApp;

const INSERT_NOTIFICATIONS: &str = include_str!("../../../sql/queries/outbox/insert_notifications.sql");
const INSERT_OWED: &str = include_str!("../../../sql/queries/outbox/insert_owed.sql");

impl TestApp {
    /// Owes so many notifications of this lane class, in one transaction; returns their ids in their order.
    pub async fn owe_class(&self, destination: DestinationId, count: usize, lane_class: i16) -> Vec<Uuid> {
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let bodies: Vec<String> = ids
            .iter()
            .map(|id| json!({ "event_type": "alert.opened", "event_id": id, "payload": {} }).to_string())
            .collect();
        let mut owner = pool::connect_owner(&self.database.config.database).await.unwrap();
        let transaction = owner.transaction().await.unwrap();
        let (tenants, destinations) = (vec![self.tenant.0; count], vec![destination.0; count]);
        let (events, episodes, classes) = (vec!["opened"; count], vec![1; count], vec![lane_class; count]);
        let waits = vec![false; count];
        transaction
            .execute(
                INSERT_NOTIFICATIONS,
                &[&ids, &tenants, &ids, &destinations, &events, &episodes, &bodies],
            )
            .await
            .unwrap();
        transaction.execute(INSERT_OWED, &[&ids, &tenants, &destinations, &classes, &waits]).await.unwrap();
        transaction.commit().await.unwrap();
        ids
    }

    /// Owes so many notifications.
    pub async fn owe(&self, destination: DestinationId, count: usize) -> Vec<Uuid> {
        self.owe_class(destination, count, 0).await
    }

    /// Owes one whose body is longer by so many bytes.
    pub async fn owe_padded(&self, destination: DestinationId, bytes: i32) -> Uuid {
        self.owe_within(self.owner(), destination, bytes).await
    }

    /// The same, in a transaction of the caller's.
    pub async fn owe_within(
        &self,
        client: &impl GenericClient,
        destination: DestinationId,
        bytes: i32,
    ) -> Uuid {
        let sql = "WITH told AS (
                     INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, episode, body)
                     VALUES ($1, $2, $1, $3, 'opened', 1, json_build_object('event_type', 'alert.opened', 'event_id', $1::uuid,
                             'payload', json_build_object('padding', repeat('x', $4)))::text))
                   INSERT INTO outbox (notification_id, tenant_id, destination_id) VALUES ($1, $2, $3)";
        let id = Uuid::now_v7();
        client.execute(sql, &[&id, &self.tenant.0, &destination.0, &bytes]).await.unwrap();
        id
    }

    /// Owes so many of this lane class, in one statement: more than is pleasant to send over.
    pub async fn owe_very_many(&self, destination: DestinationId, count: i32, lane_class: i16) {
        let sql = "WITH row AS MATERIALIZED (
                     SELECT (substr(encode(int8send((extract(epoch FROM now()) * 1000)::int8), 'hex'), 5) || '7'
                             || substr(md5(random()::text), 1, 3) || '8' || substr(md5(n::text || random()), 1, 15))::uuid AS id
                     FROM generate_series(1, $3) AS n
                   ), told AS (
                     INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, episode, body)
                     SELECT id, $1, id, $2, 'opened', 1, json_build_object('event_type', 'alert.opened', 'event_id', id,
                            'payload', json_build_object())::text FROM row)
                   INSERT INTO outbox (notification_id, tenant_id, destination_id, lane_class) SELECT id, $1, $2, $4 FROM row";
        self.owner().execute(sql, &[&self.tenant.0, &destination.0, &count, &lane_class]).await.unwrap();
    }

    /// Owes the test's hub one notification.
    pub async fn owe_one(&self) -> Uuid {
        self.owe(self.destination, 1).await[0]
    }

    /// Its attempts on record, each as an object of all columns.
    pub async fn attempts(&self, notification: Uuid) -> Vec<Value> {
        let query =
            "SELECT to_jsonb(a) FROM delivery_attempts a WHERE notification_id = $1 ORDER BY attempt, late";
        let rows = self.owner().query(query, &[&notification]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The same of so many that a new hub is owed at once.
    pub async fn attempts_at(&self, name: &str, url: &str, count: usize) -> Vec<Value> {
        let destination = self.add_hub(name, url, json!({})).await;
        let ids = self.owe(destination, count).await;
        let of_it = format!("SELECT count(*) FROM delivery_attempts WHERE destination_id = '{destination}'");
        self.wait_for_count(&of_it, count as i64).await;
        let mut all = Vec::new();
        for id in ids {
            all.extend(self.attempts(id).await);
        }
        all
    }

    /// Their outcomes, a late one as `late delivered`.
    pub async fn outcomes(&self, notification: Uuid) -> Vec<String> {
        let late = |attempt: &Value| if attempt["late"] == true { "late " } else { "" };
        let attempts = self.attempts(notification).await;
        attempts.iter().map(|a| format!("{}{}", late(a), a["outcome"].as_str().unwrap())).collect()
    }

    /// Its row of the view `deliveries`.
    pub async fn delivery(&self, notification: Uuid) -> Value {
        let query = "SELECT to_jsonb(d) FROM deliveries d WHERE notification_id = $1";
        self.owner().query_one(query, &[&notification]).await.unwrap().get(0)
    }

    /// A destination's row.
    pub async fn destination(&self, id: DestinationId) -> Value {
        let query = "SELECT to_jsonb(d) FROM destinations d WHERE destination_id = $1";
        self.owner().query_one(query, &[&id.0]).await.unwrap().get(0)
    }
}

/// How long an attempt took.
pub fn took(attempt: &Value) -> SignedDuration {
    let at = |name: &str| attempt[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    at("finished_at").duration_since(at("started_at"))
}
