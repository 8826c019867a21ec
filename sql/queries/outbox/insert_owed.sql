-- $1 notification ids, $2 tenant ids, $3 destination ids, $4 lane classes, $5 whether it waits for another. LEFT JOIN: one without
-- its destination is an error.
INSERT INTO outbox (notification_id, tenant_id, destination_id, lane_class, next_attempt_at, held_before)
SELECT n.notification_id, n.tenant_id, n.destination_id, n.lane_class, CASE WHEN n.waits THEN 'infinity' ELSE clock_timestamp() END,
       coalesce(held_seconds_until_now(d), 0)
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::smallint[], $5::boolean[])
  AS n (notification_id, tenant_id, destination_id, lane_class, waits)
LEFT JOIN destinations d ON d.destination_id = n.destination_id
