//! What a hub saw, held against what is on record.

use std::collections::HashMap;

use uuid::Uuid;
use watchbell::dev::hub::Received;

use super::app::TestApp;

impl TestApp {
    /// Every notification arrived at the test's hub and is delivered; every POST that the hub saw is an attempt on record, under
    /// its notification's own id and with its very bytes; the books are right. Returns how many POSTs were repeats.
    pub async fn assert_all_told_and_on_record(&self, owed: &[Uuid]) -> usize {
        let query = "SELECT n.notification_id, n.body, d.status,
                            (SELECT count(*) FROM delivery_attempts a
                             WHERE a.notification_id = n.notification_id AND NOT a.late)
                     FROM notifications n JOIN deliveries d USING (notification_id) WHERE n.notification_id = ANY ($1)";
        let rows = self.owner().query(query, &[&owed]).await.unwrap();
        assert_eq!(rows.len(), owed.len());
        let mut posts: HashMap<Uuid, Vec<Received>> = HashMap::new();
        for post in self.hub.received() {
            let id = post.event_id.as_deref().unwrap().parse().unwrap();
            posts.entry(id).or_default().push(post);
        }
        assert_eq!(posts.values().map(|posts| posts.len() as u64).sum::<u64>(), self.hub.total());
        let mut repeats = 0;
        for row in &rows {
            let (id, body, status): (Uuid, &str, &str) = (row.get(0), row.get(1), row.get(2));
            let posts = posts.remove(&id).unwrap_or_else(|| panic!("{id} never arrived"));
            assert_eq!(status, "delivered", "{id}");
            assert!(posts.iter().all(|post| post.body == body.as_bytes()), "{id}: not its bytes");
            let recorded = row.get::<_, i64>(3);
            assert!(posts.len() as i64 <= recorded, "{id}: {} POSTs, {recorded} on record", posts.len());
            repeats += posts.len() - 1;
        }
        assert!(posts.is_empty(), "nobody owed {:?}", posts.keys());
        self.assert_verified().await;
        repeats
    }
}
