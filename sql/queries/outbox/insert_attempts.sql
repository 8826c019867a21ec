-- $1 worker; arrays: $2 notification ids, $3 attempts, $4 tenant ids, $5 destination ids, $6 outcomes, $7 started, $8 finished,
-- $9 status codes, $10 errors, $11 warnings, $12 answers, $13 SHA-256, $14 external ids
INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, worker_id,
  started_at, finished_at, status_code, error, warning, answer, body_sha256, external_id)
SELECT notification_id, attempt, tenant_id, destination_id, outcome, $1,
  started_at, finished_at, status_code, error, warning, answer, body_sha256, external_id
FROM unnest($2::uuid[], $3::int[], $4::int[], $5::uuid[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::int[], $10::text[],
    $11::text[], $12::text[], $13::bytea[], $14::text[])
  AS f (notification_id, attempt, tenant_id, destination_id, outcome, started_at, finished_at, status_code, error, warning, answer,
        body_sha256, external_id)
