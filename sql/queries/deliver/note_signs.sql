-- arrays: $1 destination ids, $2 states or NULL, $3 why, $4 seconds to hold; $5 seconds for which the breaker opens, 0 to close
-- it, or NULL; $6 how often it had opened then, $7 why; $8 seconds of a pause, or NULL
WITH wanted AS (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::float8[], $5::float8[], $6::int[], $7::text[], $8::float8[])
    AS w (destination_id, state, reason, hold_seconds, open_seconds, opened, open_reason, pause_seconds)
), locked AS (
  SELECT d.destination_id,
         -- Who has seen it close or open meanwhile knows better.
         coalesce(w.open_seconds > 0 AND d.breaker_opened = w.opened AND w.state IS NULL, false) AS opens,
         coalesce(w.open_seconds = 0, false) OR w.state IS NOT NULL AS closes
  FROM destinations d JOIN wanted w USING (destination_id) ORDER BY d.destination_id FOR NO KEY UPDATE OF d
)
UPDATE destinations d
SET state = coalesce(w.state, d.state),
    -- Held again without a reason: for the one it was held for.
    state_reason = CASE WHEN w.state = 'held' THEN coalesce(w.reason, d.state_reason)
                        WHEN w.state IS NOT NULL THEN w.reason ELSE d.state_reason END,
    held_until = CASE WHEN w.state = 'held' THEN now() + make_interval(secs => w.hold_seconds)
                      WHEN w.state IS NULL THEN d.held_until END,
    breaker_opened = CASE WHEN l.closes THEN 0 WHEN l.opens THEN d.breaker_opened + 1 ELSE d.breaker_opened END,
    breaker_open_until = CASE WHEN l.opens THEN now() + make_interval(secs => w.open_seconds)
                              WHEN NOT l.closes THEN d.breaker_open_until END,
    breaker_reason = CASE WHEN l.opens THEN w.open_reason WHEN NOT l.closes THEN d.breaker_reason END,
    paused_until = CASE WHEN w.pause_seconds IS NULL THEN d.paused_until
                        ELSE greatest(d.paused_until, now() + make_interval(secs => w.pause_seconds)) END
FROM wanted w JOIN locked l USING (destination_id)
WHERE d.destination_id = w.destination_id
  -- A person's word is not undone by an answer that was under way: only a person takes a destination out of `parked`.
  AND d.state <> 'parked'
  AND (w.state IS DISTINCT FROM 'held' OR w.reason IS NOT NULL OR d.state = 'held')
