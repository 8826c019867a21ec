-- $1 worker; arrays, in the order of the first: $2 notification ids, $3 attempts, $4 tenant ids, $5 destination ids, $6 outcomes,
-- $7 started, $8 finished, $9 status codes, $10 errors, $11 warnings, $12 answers, $13 SHA-256, $14 external ids, $15 seconds to wait,
-- $16 reasons of death. Returns those that their worker still had in flight, and whether they left the outbox; of the others
-- nothing is written. BETWEEN as in `complete_delivered.sql`.
WITH failed AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::int[], $4::int[], $5::uuid[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::int[],
    $10::text[], $11::text[], $12::text[], $13::bytea[], $14::text[], $15::float8[], $16::text[])
    AS f (notification_id, attempt, tenant_id, destination_id, outcome, started_at, finished_at, status_code, error, warning, answer,
          body_sha256, external_id, wait_seconds, reason)
), ended AS (
  -- `accepted`: an earlier attempt was, as its late answer said.
  DELETE FROM outbox o USING failed f
  WHERE o.notification_id BETWEEN f.notification_id AND f.notification_id AND o.attempts = f.attempt AND o.status = 'in_flight'
    AND (o.accepted OR f.outcome = 'dead')
  RETURNING f.*, o.accepted
), waiting AS (
  UPDATE outbox o
  SET status = 'retrying', next_attempt_at = now() + make_interval(secs => f.wait_seconds), lane_class = o.lane_class | 1,
      leased_by = NULL, leased_at = NULL, leased_until = NULL
  FROM failed f
  WHERE o.notification_id BETWEEN f.notification_id AND f.notification_id AND o.attempts = f.attempt AND o.status = 'in_flight'
    AND NOT o.accepted AND f.outcome IN ('retry', 'hold', 'ambiguous')
  RETURNING f.*, false
), fenced AS (
  SELECT true AS has_left, * FROM ended UNION ALL SELECT false, * FROM waiting
), buried AS (
  INSERT INTO dead_letters (notification_id, tenant_id, destination_id, reason, attempts)
  SELECT notification_id, tenant_id, destination_id, reason, attempt FROM ended WHERE NOT accepted
  ON CONFLICT (notification_id) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts
), recorded AS (
  -- Whoever takes a row over raises its attempts: nobody else can have recorded this one.
  INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, worker_id,
    started_at, finished_at, status_code, error, warning, answer, body_sha256, external_id)
  SELECT notification_id, attempt, tenant_id, destination_id, outcome, $1,
    started_at, finished_at, status_code, error, warning, answer, body_sha256, external_id
  FROM fenced
)
SELECT notification_id, attempt, has_left FROM fenced
