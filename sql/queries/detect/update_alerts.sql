-- arrays: $1 alerts, $2 states, $3 severities, $4 episodes, $5 ended at, $6 historical, $7 silences, $8 told, $9 told at,
-- and the pairs $10 alerts, $11 destinations that were told
UPDATE alerts a
SET state = c.state, severity = c.severity, episodes = c.episodes, ended_at = c.ended_at, historical = c.historical,
    silence_id = c.silence_id, told = c.told, told_at = c.told_at,
    told_destination_ids = coalesce(
      (SELECT array_agg(d.destination_id) FROM unnest($10::uuid[], $11::uuid[]) AS d (alert_id, destination_id)
       WHERE d.alert_id = a.alert_id), '{}'),
    resolved_at = CASE WHEN c.state = 'resolved' THEN coalesce(a.resolved_at, now()) END,
    resolved_by = CASE WHEN c.state = 'resolved' THEN coalesce(a.resolved_by, 'detector') END,
    -- Whoever took it on did so for the episode that is over.
    acknowledged_at = CASE WHEN c.state <> 'open' THEN a.acknowledged_at END,
    acknowledged_by = CASE WHEN c.state <> 'open' THEN a.acknowledged_by END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::timestamptz[], $6::bool[], $7::uuid[], $8::text[],
            $9::timestamptz[])
  AS c (alert_id, state, severity, episodes, ended_at, historical, silence_id, told, told_at)
WHERE a.alert_id = c.alert_id
