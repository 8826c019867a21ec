-- $1 worker, $2 destinations, $3 slots, $4 seconds of lease, $5 floors: the due time of each of the eight classes of each destination
-- before which nothing is looked for, $6 rows in all. The last two columns: who had it in flight and let its lease run out, since when.
-- Picked once: a plan that was made for an empty table could join from the other side, and pick again, and others, for each row. By
-- their places, which stay while they are locked; one that was changed since the statement began is passed by until the next look.
WITH picked AS MATERIALIZED (
  SELECT due.*, lane.lease_seconds, held_seconds_until_now(d) AS held_seconds
  -- Who was taken for dead claims nothing; and nobody takes us for dead before this commits.
  FROM (SELECT worker_id FROM workers WHERE worker_id = $1 FOR KEY SHARE) AS alive
  CROSS JOIN unnest($2::uuid[], $3::int[], $4::float8[]) WITH ORDINALITY AS lane (destination_id, slots, lease_seconds, place)
  JOIN destinations d ON d.destination_id = lane.destination_id
  CROSS JOIN LATERAL (
    SELECT row.*
    FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7)) AS class (lane_class)
    CROSS JOIN LATERAL (
      SELECT o.ctid AS place, o.leased_by, o.leased_at
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
)
UPDATE outbox o
SET status = 'in_flight', attempts = o.attempts + 1, leased_by = $1, leased_at = now(),
    leased_until = now() + make_interval(secs => picked.lease_seconds)
FROM picked
WHERE o.ctid = picked.place
RETURNING o.notification_id, o.tenant_id, o.destination_id, o.attempts, o.enqueued_at, picked.held_seconds - o.held_before,
  o.lane_class, o.next_attempt_at, now(), o.accepted, picked.leased_by, picked.leased_at
