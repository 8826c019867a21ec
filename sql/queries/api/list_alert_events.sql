-- $1 alert
SELECT kind, actor, at, note FROM alert_events WHERE alert_id = $1 ORDER BY event_id
