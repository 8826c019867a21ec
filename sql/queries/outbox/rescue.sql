-- What workers have in flight: $1 workers; of it, what nobody works at: all but the attempts $2, of the notifications, and $3, their
-- numbers; $4 why nobody does. Returns how many attempts were cut short, and what left the outbox.
-- BETWEEN as in `complete_delivered.sql`.
WITH lost AS MATERIALIZED (
  SELECT o.notification_id, o.tenant_id, o.destination_id, o.attempts, o.leased_by, o.leased_at, o.accepted
  FROM outbox o JOIN unnest($1::uuid[]) AS holder (worker_id) ON holder.worker_id = o.leased_by
  WHERE o.status = 'in_flight'
    AND NOT EXISTS (
      SELECT FROM unnest($2::uuid[], $3::int[]) AS under_way (notification_id, attempt)
      WHERE under_way.notification_id = o.notification_id AND under_way.attempt = o.attempts
    )
  ORDER BY o.notification_id
  FOR UPDATE OF o
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
  SELECT notification_id, attempts, tenant_id, destination_id, 'unknown', leased_by, leased_at, $4
  FROM lost
  RETURNING notification_id
)
SELECT (SELECT count(*) FROM recorded), ARRAY(SELECT notification_id FROM ended)
