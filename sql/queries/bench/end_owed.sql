-- The limit of completing: every row was delivered, and nobody took one over. $1 worker; arrays: $2 notification ids,
-- $3 tenant ids, $4 destination ids, $5 started, $6 finished, $7 status codes, $8 answers, $9 SHA-256
WITH ended AS (
  DELETE FROM outbox o USING unnest($2::uuid[]) AS f (notification_id) WHERE o.notification_id = f.notification_id
)
INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, worker_id, started_at, finished_at,
  status_code, answer, body_sha256)
SELECT notification_id, 1, tenant_id, destination_id, 'delivered', $1, started_at, finished_at, status_code, answer, body_sha256
FROM unnest($2::uuid[], $3::int[], $4::uuid[], $5::timestamptz[], $6::timestamptz[], $7::int[], $8::text[], $9::bytea[])
    AS f (notification_id, tenant_id, destination_id, started_at, finished_at, status_code, answer, body_sha256)
