-- arrays: $1 destination ids, $2 states, $3 reasons, $4 seconds to hold
UPDATE destinations d
SET state = s.state, state_reason = s.reason,
    held_until = CASE WHEN s.state = 'held' THEN now() + make_interval(secs => s.seconds) END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::float8[]) AS s (destination_id, state, reason, seconds)
WHERE d.destination_id = s.destination_id
  -- A person's word is not undone by an answer that was under way: only a person takes a destination out of `parked`.
  AND d.state <> 'parked'
