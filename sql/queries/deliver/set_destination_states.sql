-- arrays: $1 destination ids, $2 states, $3 reasons, $4 seconds to hold
WITH wanted AS (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::float8[]) AS w (destination_id, state, reason, seconds)
), locked AS (
  SELECT d.destination_id FROM destinations d JOIN wanted USING (destination_id) ORDER BY d.destination_id FOR UPDATE OF d
)
UPDATE destinations d
SET state = w.state, state_reason = w.reason,
    held_until = CASE WHEN w.state = 'held' THEN now() + make_interval(secs => w.seconds) END
FROM wanted w JOIN locked USING (destination_id)
WHERE d.destination_id = w.destination_id
  -- A person's word is not undone by an answer that was under way: only a person takes a destination out of `parked`.
  AND d.state <> 'parked'
