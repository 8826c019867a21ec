-- For what its worker has not in flight any more: it was taken over meanwhile, or this very call committed before
-- and its answer was lost. $1 worker; arrays: $2 notification ids, $3 attempts, $4 tenant ids, $5 destination ids, $6 outcomes,
-- $7 started, $8 finished, $9 status codes, $10 errors, $11 warnings, $12 answers, $13 SHA-256, $14 external ids. Returns what is on
-- record now as late, and what left the outbox. BETWEEN as in `complete_delivered.sql`.
WITH finished AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::int[], $4::int[], $5::uuid[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::int[],
    $10::text[], $11::text[], $12::text[], $13::bytea[], $14::text[])
    AS f (notification_id, attempt, tenant_id, destination_id, outcome, started_at, finished_at, status_code, error, warning, answer,
          body_sha256, external_id)
), held AS MATERIALIZED (
  SELECT DISTINCT locked.notification_id, locked.status
  FROM (
    SELECT o.notification_id, o.status
    FROM finished f JOIN outbox o ON o.notification_id BETWEEN f.notification_id AND f.notification_id
    WHERE f.outcome = 'delivered'
    ORDER BY f.notification_id
    FOR UPDATE OF o
  ) AS locked
), ended AS (
  -- An acceptance ends a row, unless somebody has it in flight again: it is noted then, and ends the row when that attempt does.
  DELETE FROM outbox o USING held h
  WHERE o.notification_id BETWEEN h.notification_id AND h.notification_id AND h.status <> 'in_flight'
  RETURNING o.notification_id
), noted AS (
  UPDATE outbox o SET accepted = true FROM held h
  WHERE o.notification_id BETWEEN h.notification_id AND h.notification_id AND h.status = 'in_flight'
), unburied AS (
  -- Given up meanwhile, and now known to be accepted: nobody should send it again.
  DELETE FROM dead_letters x USING finished f WHERE x.notification_id = f.notification_id AND f.outcome = 'delivered'
), recorded AS (
  INSERT INTO delivery_attempts (notification_id, attempt, late, tenant_id, destination_id, outcome, worker_id,
    started_at, finished_at, status_code, error, warning, answer, body_sha256, external_id)
  SELECT f.notification_id, f.attempt, true, f.tenant_id, f.destination_id, f.outcome, $1,
    f.started_at, f.finished_at, f.status_code, f.error, f.warning, f.answer, f.body_sha256, f.external_id
  FROM finished f
  -- A scalar: EXISTS would be hashed, and all history read for it.
  WHERE (SELECT count(*) FROM delivery_attempts a
         WHERE a.notification_id = f.notification_id AND a.attempt = f.attempt AND NOT a.late AND a.outcome <> 'unknown') = 0
  ON CONFLICT DO NOTHING
  RETURNING notification_id
)
SELECT notification_id, true FROM recorded
UNION ALL
SELECT notification_id, false FROM ended
