-- arrays: $1 destinations, $2 requests that start, $3 requests a second or NULL, $4 burst, $5 seconds that an attempt may take.
-- A probe is nobody else's for as long as it may take. Returns the seconds until the next request may start, for those with
-- a rate.
UPDATE destinations d
SET pace_next_at = CASE WHEN t.rate IS NULL THEN d.pace_next_at
                        ELSE greatest(d.pace_next_at, now()) + make_interval(secs => t.requests / t.rate) END,
    held_until = CASE WHEN d.state = 'held' THEN now() + make_interval(secs => t.lease_seconds) ELSE d.held_until END,
    breaker_open_until = CASE WHEN d.breaker_opened > 0 THEN now() + make_interval(secs => t.lease_seconds)
                              ELSE d.breaker_open_until END
FROM unnest($1::uuid[], $2::int[], $3::float8[], $4::int[], $5::float8[])
  AS t (destination_id, requests, rate, burst, lease_seconds)
WHERE d.destination_id = t.destination_id
RETURNING d.destination_id,
  greatest(coalesce(extract(epoch FROM d.pace_next_at - now())::float8 - (t.burst - 1) / t.rate, 0), 0)
