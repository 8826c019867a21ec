-- $1 worker, $2 destinations, $3 slots, $4 seconds of lease, $5 floors: the due time of each of the eight classes of each destination
-- before which nothing is looked for, $6 rows in all. A row without a number has left the outbox. The last row: before when nothing
-- is due any more in a class that was looked through. What was due in the last quarter of a second may still be about to be
-- committed, so that no floor is higher.
WITH alive AS MATERIALIZED (
  -- Who was taken for dead claims nothing; and nobody takes us for dead before this commits.
  SELECT worker_id FROM workers WHERE worker_id = $1 FOR KEY SHARE
), picked AS MATERIALIZED (
  SELECT due.*, lane.lease_seconds, held_seconds_until_now(d) AS held_seconds
  FROM alive
  CROSS JOIN unnest($2::uuid[], $3::int[], $4::float8[]) WITH ORDINALITY AS lane (destination_id, slots, lease_seconds, place)
  JOIN destinations d ON d.destination_id = lane.destination_id
  CROSS JOIN LATERAL (
    SELECT row.*
    FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7)) AS class (lane_class)
    CROSS JOIN LATERAL (
      SELECT o.ctid, o.notification_id, o.tenant_id, o.destination_id, o.attempts, o.status, o.leased_by, o.leased_at, o.accepted
      FROM outbox o
      WHERE o.destination_id = lane.destination_id
        AND o.lane_class = class.lane_class
        AND o.next_attempt_at >= ($5::timestamptz[])[8 * (lane.place - 1) + class.lane_class + 1]
        AND o.next_attempt_at <= now()
        AND (o.leased_until IS NULL OR o.leased_until <= now())
      ORDER BY o.next_attempt_at
      LIMIT lane.slots
      FOR UPDATE OF o SKIP LOCKED
    ) AS row
    LIMIT lane.slots
  ) AS due
  LIMIT $6
), claimed AS (
  UPDATE outbox o
  SET status = 'in_flight', attempts = o.attempts + 1, leased_by = $1, leased_at = now(),
      leased_until = now() + make_interval(secs => picked.lease_seconds)
  -- It is locked: it is where it was found.
  FROM picked WHERE o.ctid = picked.ctid AND NOT picked.accepted
  RETURNING o.notification_id, o.tenant_id, o.destination_id, o.attempts, o.enqueued_at,
            picked.held_seconds - o.held_before AS held_seconds, o.lane_class, o.next_attempt_at,
            picked.status AS was, picked.leased_by AS was_leased_by, picked.leased_at AS was_leased_at
), ended AS (
  -- An earlier attempt was accepted, as its late answer said: nothing is sent again.
  DELETE FROM outbox o USING picked WHERE o.notification_id = picked.notification_id AND picked.accepted
  RETURNING o.notification_id, o.tenant_id, o.destination_id, o.attempts, o.status, o.leased_by, o.leased_at
), lost AS (
  -- Still in flight although the lease is over: nobody knows what became of that attempt.
  INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, worker_id, started_at, error)
  SELECT notification_id, attempt, tenant_id, destination_id, 'unknown', leased_by, leased_at,
         'the lease ran out and nobody said what became of it'
  FROM (
    SELECT notification_id, attempts - 1, tenant_id, destination_id, was_leased_by, was_leased_at FROM claimed WHERE was = 'in_flight'
    UNION ALL
    SELECT notification_id, attempts, tenant_id, destination_id, leased_by, leased_at FROM ended WHERE status = 'in_flight'
  ) AS taken (notification_id, attempt, tenant_id, destination_id, leased_by, leased_at)
)
SELECT notification_id, tenant_id, destination_id, attempts, date_part('epoch', now() - enqueued_at), held_seconds, lane_class,
       least(next_attempt_at, now() - interval '250 milliseconds')
FROM claimed
UNION ALL
SELECT notification_id, tenant_id, destination_id, NULL, NULL, NULL, NULL, NULL FROM ended
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, now() - interval '250 milliseconds'
