//! What people heard of alerts, what the timeline says, and what people say over HTTP.

use serde_json::Value;
use uuid::Uuid;
use watchbell::runtime::Roles;

use super::app::TestApp;

impl TestApp {
    /// A service with these settings, of which every stage runs.
    pub async fn running(settings: &[(&str, &str)]) -> Self {
        let mut app = Self::new(settings).await;
        app.start(Roles::all()).await;
        app
    }

    /// The bodies that the hub has accepted, in the order in which they came.
    pub fn heard(&self) -> Vec<Value> {
        self.hub.received().iter().filter(|call| call.was_accepted()).map(|call| call.json()).collect()
    }

    /// The same of one kind, such as `alert.opened`.
    pub fn heard_of(&self, event: &str) -> Vec<Value> {
        self.heard().into_iter().filter(|body| body["event_type"] == event).collect()
    }

    /// Waits until so many notifications are delivered, of all there are.
    pub async fn wait_for_delivered(&self, count: i64) {
        self.wait_for_count("SELECT count(*) FROM deliveries WHERE status = 'delivered'", count).await;
    }

    /// The one alert of a device.
    pub async fn alert_of(&self, device: &str) -> Uuid {
        let query = "SELECT alert_id FROM alerts JOIN series USING (series_id) JOIN devices USING (device_id)
                     WHERE external_id = $1";
        self.owner().query_one(query, &[&device]).await.unwrap().get(0)
    }

    /// An alert's row as an object of all columns.
    pub async fn alert(&self, alert: Uuid) -> Value {
        let query = "SELECT to_jsonb(a) FROM alerts a WHERE alert_id = $1";
        self.owner().query_one(query, &[&alert]).await.unwrap().get(0)
    }

    /// Its timeline: `opened: notified`, `escalated: from warning to critical`, `resolved`.
    pub async fn timeline(&self, alert: Uuid) -> Vec<String> {
        let query = "SELECT concat_ws(': ', kind, disposition, note) FROM alert_events
                     WHERE alert_id = $1 ORDER BY event_id";
        let rows = self.owner().query(query, &[&alert]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Changes the rule `hot`: `"cooldown_seconds = 0"`.
    pub async fn set_hot(&self, columns: &str) {
        let sql = format!("UPDATE rules SET {columns} WHERE name = 'hot'");
        self.owner().batch_execute(&sql).await.unwrap();
    }

    /// What a person asks the API to do; it must agree.
    pub async fn ask(&self, method: reqwest::Method, path: &str, body: &Value) -> Value {
        let address =
            self.running.as_ref().and_then(|running| running.api_address).expect("the role api runs");
        let request = reqwest::Client::new().request(method, format!("http://{address}{path}"));
        let answer = request.header("X-API-Key", &self.api_key).json(body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }
}
