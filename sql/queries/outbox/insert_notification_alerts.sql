-- $1 notification ids, $2 alert ids, $3 tenant ids, $4 episodes: what a notification that tells of many is about
INSERT INTO notification_alerts (notification_id, alert_id, tenant_id, episode)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[])
