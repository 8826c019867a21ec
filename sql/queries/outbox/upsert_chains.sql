-- $1 destinations, $2 rules, $3 series, $4 tenant ids, $5 the last of each; in the order of the key, for all who lock them
INSERT INTO chains (destination_id, rule_id, series_id, tenant_id, last_notification_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::uuid[])
ON CONFLICT (destination_id, rule_id, series_id) DO UPDATE SET last_notification_id = excluded.last_notification_id
