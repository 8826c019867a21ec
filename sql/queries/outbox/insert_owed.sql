-- $1 notification ids, $2 tenant ids, $3 destination ids, $4 lane classes
INSERT INTO outbox (notification_id, tenant_id, destination_id, lane_class)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::smallint[])
