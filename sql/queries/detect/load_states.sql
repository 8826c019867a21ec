-- $1 series ids; with the alert that a state may open again
SELECT s.rule_id, s.series_id, s.rule_version, s.raised, s.recent, s.holds_since, s.fires_since, s.clear_since, s.decided_at,
       s.decided_value, s.evidence, s.last_fired_at, s.told_through,
       a.alert_id, a.state, a.severity, a.episodes, a.breached_at, a.ended_at, a.historical, a.silence_id, a.told, a.told_at,
       a.told_destination_ids
FROM rule_state s
LEFT JOIN alerts a ON a.alert_id = s.alert_id
WHERE s.series_id = ANY ($1::int[])
