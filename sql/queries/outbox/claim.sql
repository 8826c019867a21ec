-- $1 worker, $2 destinations, $3 slots, $4 seconds of lease, $5 rows in all. A row without a number has left the outbox.
WITH alive AS MATERIALIZED (
  -- Who was taken for dead claims nothing; and nobody takes us for dead before this commits.
  SELECT worker_id FROM workers WHERE worker_id = $1 FOR KEY SHARE
), picked AS MATERIALIZED (
  SELECT due.*, lane.lease_seconds
  FROM alive
  CROSS JOIN unnest($2::uuid[], $3::int[], $4::float8[]) AS lane (destination_id, slots, lease_seconds)
  CROSS JOIN LATERAL (
    SELECT row.*
    FROM generate_series(0, 3) AS class (lane_class)
    CROSS JOIN LATERAL (
      SELECT o.notification_id, o.tenant_id, o.destination_id, o.attempts, o.status, o.leased_by, o.leased_at, o.accepted
      FROM outbox o
      WHERE o.destination_id = lane.destination_id
        AND o.lane_class = class.lane_class
        AND o.next_attempt_at <= now()
      ORDER BY o.next_attempt_at
      LIMIT lane.slots
      FOR UPDATE OF o SKIP LOCKED
    ) AS row
    LIMIT lane.slots
  ) AS due
  LIMIT $5
), claimed AS (
  UPDATE outbox o
  SET status = 'in_flight', attempts = o.attempts + 1, leased_by = $1, leased_at = now(),
      next_attempt_at = now() + make_interval(secs => picked.lease_seconds)
  FROM picked WHERE o.notification_id = picked.notification_id AND NOT picked.accepted
  RETURNING o.notification_id, o.tenant_id, o.destination_id, o.attempts, o.enqueued_at, o.held_before
), ended AS (
  -- An earlier attempt was accepted, as its late answer said: nothing is sent again.
  DELETE FROM outbox o USING picked WHERE o.notification_id = picked.notification_id AND picked.accepted
  RETURNING o.notification_id, o.tenant_id, o.destination_id
), lost AS (
  -- Still in flight although the lease is over: nobody knows what became of that attempt.
  INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, worker_id, started_at, error)
  SELECT notification_id, attempts, tenant_id, destination_id, 'unknown', leased_by, leased_at,
         'the lease ran out and nobody said what became of it'
  FROM picked WHERE status = 'in_flight'
)
SELECT c.notification_id, c.tenant_id, c.destination_id, c.attempts,
       extract(epoch FROM now() - c.enqueued_at)::float8,
       held_seconds_until_now(d) - c.held_before, n.body
FROM claimed c
JOIN notifications n ON n.notification_id = c.notification_id
JOIN destinations d ON d.destination_id = c.destination_id
UNION ALL
SELECT notification_id, tenant_id, destination_id, NULL, NULL, NULL, NULL FROM ended
