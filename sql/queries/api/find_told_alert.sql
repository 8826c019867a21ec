-- $1 alert. What people are told of it, with the names that they know things by, and who was told that it is open.
SELECT a.alert_id, a.state, a.told, a.tenant_id, a.rule_id, a.rule_version, a.series_id, a.breached_at,
       a.fired_at, a.decided_at, a.value, a.evidence, a.device_tags, a.points, a.late, a.severity, a.episodes, a.ended_at, a.historical, a.silence_id,
       a.told_at, a.told_destination_ids,
       v.definition->>'name' AS rule_name, v.definition->'labels' AS labels, v.definition->>'runbook_url' AS runbook_url,
       d.external_id AS device, s.metric, s.unit
FROM alerts a
JOIN rule_versions v ON v.rule_id = a.rule_id AND v.version = a.rule_version
JOIN series s ON s.series_id = a.series_id
JOIN devices d ON d.device_id = s.device_id
WHERE a.alert_id = $1
