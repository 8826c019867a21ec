-- $1 what is waited for, $2 what waits, $3 tenant ids
INSERT INTO outbox_blocked (after_id, notification_id, tenant_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[])
