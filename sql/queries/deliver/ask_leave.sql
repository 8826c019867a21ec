-- arrays: $1 destinations, $2 slots, $3 requests a second or NULL, $4 burst. Of those that have something due: how many requests
-- may start now, and seconds until the next may. What is allowed stays locked until the claim, so that two processes are
-- never given the same.
WITH asked AS MATERIALIZED (
  SELECT a.* FROM unnest($1::uuid[], $2::int[], $3::float8[], $4::int[]) AS a (destination_id, slots, rate, burst)
  WHERE EXISTS (
    SELECT FROM generate_series(0, 7) AS class (lane_class)
    CROSS JOIN LATERAL (
      SELECT FROM outbox o
      WHERE o.destination_id = a.destination_id AND o.lane_class = class.lane_class AND o.next_attempt_at <= now()
        AND (o.leased_until IS NULL OR o.leased_until <= now())
      LIMIT 1) AS due)
), allowed AS MATERIALIZED (
  SELECT d.destination_id,
         least(CASE WHEN d.state = 'held' OR d.breaker_opened > 0 THEN 1 ELSE a.slots END,
               a.burst - ceil(greatest(extract(epoch FROM d.pace_next_at - now()), 0)::float8 * a.rate)::int) AS slots
  FROM asked a JOIN destinations d USING (destination_id)
  WHERE d.state <> 'parked'
    AND (d.state <> 'held' OR d.held_until <= now())
    AND (d.breaker_opened = 0 OR d.breaker_open_until <= now())
    AND (d.paused_until IS NULL OR d.paused_until <= now())
    AND (a.rate IS NULL OR d.pace_next_at IS NULL
         OR d.pace_next_at - make_interval(secs => (a.burst - 1) / a.rate) <= now())
  ORDER BY d.destination_id
  FOR NO KEY UPDATE OF d SKIP LOCKED
)
SELECT a.destination_id, CASE WHEN allowed.destination_id IS NULL THEN 0 ELSE greatest(allowed.slots, 1) END,
       greatest(coalesce(extract(epoch FROM d.pace_next_at - now())::float8 - (a.burst - 1) / a.rate, 0), 0)
FROM asked a JOIN destinations d USING (destination_id) LEFT JOIN allowed USING (destination_id)
