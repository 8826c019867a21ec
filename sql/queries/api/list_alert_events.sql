-- $1 alert
SELECT kind, actor, at, happened_at, episode, disposition, note FROM alert_events WHERE alert_id = $1 ORDER BY event_id
