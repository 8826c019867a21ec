-- $1 notifications that were never sent, $2 tenant ids, $3 destination ids, $4 what tells it in their stead. Returns those that were
-- owed. BETWEEN as in `complete_delivered.sql`.
WITH superseded AS (
  SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::uuid[]) AS s (notification_id, tenant_id, destination_id, by)
), ended AS (
  DELETE FROM outbox o USING superseded s WHERE o.notification_id BETWEEN s.notification_id AND s.notification_id
  RETURNING o.notification_id
), recorded AS (
  INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, finished_at, error)
  SELECT notification_id, 1, tenant_id, destination_id, 'superseded', now(), 'told by ' || by FROM superseded
)
SELECT notification_id FROM ended
