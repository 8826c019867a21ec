-- Attempts at which nobody works; their rows are locked. Arrays, in the order of the first: $1 notification ids, $2 attempts,
-- $3 workers; $4 whether they may have been sent, $5 why nobody does. Returns how many are in flight as such, and what left the outbox.
-- BETWEEN as in `complete_delivered.sql`.
WITH lost AS MATERIALIZED (
  SELECT o.notification_id, o.tenant_id, o.destination_id, o.attempts, o.leased_by, o.leased_at, o.accepted
  FROM unnest($1::uuid[], $2::int[], $3::uuid[]) AS f (notification_id, attempt, worker_id)
  JOIN outbox o ON o.notification_id BETWEEN f.notification_id AND f.notification_id
    AND o.attempts = f.attempt AND o.leased_by = f.worker_id
  WHERE o.status = 'in_flight'
), owed_again AS (
  UPDATE outbox o SET status = 'retrying', next_attempt_at = now(), lane_class = o.lane_class | 1,
      leased_by = NULL, leased_at = NULL, leased_until = NULL
  FROM lost WHERE o.notification_id BETWEEN lost.notification_id AND lost.notification_id AND NOT lost.accepted
), ended AS (
  -- An earlier attempt was accepted, as its late answer said: nothing is sent again.
  DELETE FROM outbox o USING lost WHERE o.notification_id BETWEEN lost.notification_id AND lost.notification_id AND lost.accepted
  RETURNING o.notification_id
), recorded AS (
  INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, worker_id, started_at, error)
  SELECT notification_id, attempts, tenant_id, destination_id, 'unknown', leased_by, CASE WHEN $4 THEN leased_at END, $5
  FROM lost
  RETURNING notification_id
)
SELECT (SELECT count(*) FROM recorded), ARRAY(SELECT notification_id FROM ended)
