-- $1 worker; arrays: $2 notification ids, $3 attempts, $4 tenant ids, $5 destination ids, $6 outcomes, $7 seconds to wait,
-- $8 reasons of death, $9 started, $10 finished, $11 status codes, $12 errors, $13 warnings, $14 answers, $15 SHA-256,
-- $16 external ids. Returns the late ones, and those that left the outbox.
WITH finished AS MATERIALIZED (
  SELECT * FROM unnest($2::uuid[], $3::int[], $4::int[], $5::uuid[], $6::text[], $7::float8[], $8::text[],
    $9::timestamptz[], $10::timestamptz[], $11::int[], $12::text[], $13::text[], $14::text[], $15::bytea[], $16::text[])
    AS f (notification_id, attempt, tenant_id, destination_id, outcome, wait_seconds, reason,
          started_at, finished_at, status_code, error, warning, answer, body_sha256, external_id)
), locked AS MATERIALIZED (
  SELECT o.notification_id, f.attempt, f.outcome, o.status, o.attempts = f.attempt AND o.status = 'in_flight' AS fenced, o.accepted
  FROM finished f JOIN outbox o ON o.notification_id = f.notification_id
  ORDER BY o.notification_id
  FOR UPDATE OF o
), held AS MATERIALIZED (
  -- `accepted`: by this attempt or by an earlier one, whose answer came late. A worker that was paused may bring both at once.
  SELECT notification_id, attempt, outcome, status, fenced, bool_or(fenced) OVER same AS fenced_here,
         accepted OR bool_or(outcome = 'delivered') OVER same AS accepted
  FROM locked WINDOW same AS (PARTITION BY notification_id)
), ended AS (
  -- An acceptance ends a row, a late one too, unless somebody has it in flight again: it is noted then, and ends the row when
  -- that attempt does.
  DELETE FROM outbox o USING held h
  WHERE o.notification_id = h.notification_id
    AND ((h.fenced AND (h.accepted OR h.outcome = 'dead')) OR (h.status <> 'in_flight' AND h.outcome = 'delivered'))
  RETURNING o.notification_id
), noted AS (
  UPDATE outbox o SET accepted = true FROM held h
  WHERE o.notification_id = h.notification_id AND h.outcome = 'delivered' AND h.status = 'in_flight' AND NOT h.fenced_here
), waiting AS (
  UPDATE outbox o
  SET status = 'retrying', next_attempt_at = now() + make_interval(secs => f.wait_seconds), leased_by = NULL, leased_at = NULL
  FROM finished f JOIN held h USING (notification_id, attempt)
  WHERE o.notification_id = f.notification_id
    AND h.fenced AND NOT h.accepted AND f.outcome IN ('retry', 'hold', 'ambiguous')
), buried AS (
  INSERT INTO dead_letters (notification_id, tenant_id, destination_id, reason, attempts)
  SELECT f.notification_id, f.tenant_id, f.destination_id, f.reason, f.attempt
  FROM finished f JOIN held h USING (notification_id, attempt)
  WHERE h.fenced AND NOT h.accepted AND f.outcome = 'dead'
  ON CONFLICT (notification_id) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts
), unburied AS (
  -- Given up meanwhile, and now known to be accepted: nobody should send it again.
  DELETE FROM dead_letters x USING finished f WHERE x.notification_id = f.notification_id AND f.outcome = 'delivered'
), recorded AS (
  INSERT INTO delivery_attempts (notification_id, attempt, late, tenant_id, destination_id, outcome, worker_id,
    started_at, finished_at, status_code, error, warning, answer, body_sha256, external_id)
  SELECT f.notification_id, f.attempt, NOT coalesce(h.fenced, false), f.tenant_id, f.destination_id, f.outcome, $1,
    f.started_at, f.finished_at, f.status_code, f.error, f.warning, f.answer, f.body_sha256, f.external_id
  FROM finished f LEFT JOIN held h USING (notification_id, attempt)
  -- Not fenced, and on record already: this very call committed before, and its answer was lost.
  WHERE coalesce(h.fenced, false) OR NOT EXISTS (
    SELECT FROM delivery_attempts a
    WHERE a.notification_id = f.notification_id AND a.attempt = f.attempt AND NOT a.late AND a.outcome <> 'unknown')
  ON CONFLICT DO NOTHING
  RETURNING notification_id, late
)
SELECT notification_id, true AS late FROM recorded WHERE late
UNION ALL
SELECT notification_id, false FROM ended
