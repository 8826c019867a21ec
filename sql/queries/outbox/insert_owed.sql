-- $1 notification ids, $2 tenant ids, $3 destination ids, $4 lane classes. LEFT JOIN: one without its destination is an error.
INSERT INTO outbox (notification_id, tenant_id, destination_id, lane_class, held_before)
SELECT n.*, coalesce(held_seconds_until_now(d), 0)
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::smallint[]) AS n (notification_id, tenant_id, destination_id, lane_class)
LEFT JOIN destinations d ON d.destination_id = n.destination_id
