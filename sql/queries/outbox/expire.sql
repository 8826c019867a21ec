-- arrays: $1 destinations, $2 seconds of their horizons, $3 why they are not tried; $4 rows in all. Returns who died. BETWEEN as in `complete_delivered.sql`.
-- A second of grace: at the horizon itself one last attempt is made if that is possible.
WITH over AS MATERIALIZED (
  SELECT row.*, shut.horizon_seconds, shut.reason
  FROM (
    SELECT *, now() - make_interval(secs => horizon_seconds + 1) AS owed_before
    FROM unnest($1::uuid[], $2::float8[], $3::text[]) AS shut (destination_id, horizon_seconds, reason)
  ) AS shut
  JOIN destinations d ON d.destination_id = shut.destination_id
  CROSS JOIN LATERAL (
    SELECT o.notification_id, o.tenant_id, o.destination_id, o.attempts
    FROM outbox o
    WHERE o.destination_id = shut.destination_id
      -- Nobody else can be over it: where all that waits is looked at, the least is done with each.
      AND o.enqueued_at < shut.owed_before
      AND o.status <> 'in_flight'
      AND o.next_attempt_at <= now()
      AND extract(epoch FROM now() - o.enqueued_at) - (held_seconds_until_now(d) - o.held_before) > shut.horizon_seconds + 1
    LIMIT $4
    FOR UPDATE OF o SKIP LOCKED
  ) AS row
  LIMIT $4
), ended AS (
  DELETE FROM outbox o USING over WHERE o.notification_id BETWEEN over.notification_id AND over.notification_id
)
INSERT INTO dead_letters (notification_id, tenant_id, destination_id, reason, attempts)
SELECT notification_id, tenant_id, destination_id,
       'not delivered within ' || horizon_seconds || ' s; ' || reason, attempts
FROM over
ON CONFLICT (notification_id) DO UPDATE SET reason = excluded.reason, attempts = excluded.attempts
RETURNING notification_id
