-- $1 alert ids: what is told of alerts that opened before
SELECT a.alert_id, a.tenant_id, a.rule_id, a.rule_version, a.series_id, a.breached_at, a.fired_at, a.decided_at, a.value,
       a.evidence, a.device_tags, a.points, a.late, v.definition->>'name' AS rule_name, v.definition->'labels' AS labels,
       v.definition->>'runbook_url' AS runbook_url
FROM alerts a JOIN rule_versions v ON v.rule_id = a.rule_id AND v.version = a.rule_version
WHERE a.alert_id = ANY ($1::uuid[])
