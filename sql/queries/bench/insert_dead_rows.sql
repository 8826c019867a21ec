-- Rows that are deleted next: $1 destinations, $2 tenant id, $3 rows. Due before all others, of all classes.
INSERT INTO outbox (notification_id, tenant_id, destination_id, lane_class)
SELECT gen_random_uuid(), $2, ($1::uuid[])[1 + row % cardinality($1::uuid[])], 2 * (row / cardinality($1::uuid[]) % 4)
FROM generate_series(0, $3::int - 1) AS row
