-- $1 notification ids, $2 tenant ids, $3 destination ids, $4 lane classes
INSERT INTO outbox (notification_id, tenant_id, destination_id, lane_class, held_before)
SELECT o.notification_id, o.tenant_id, o.destination_id, o.lane_class, held_seconds_until_now(d)
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::smallint[]) AS o (notification_id, tenant_id, destination_id, lane_class)
JOIN destinations d USING (destination_id)
