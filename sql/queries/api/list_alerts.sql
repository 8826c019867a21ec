-- $1 alert, $2 state, $3 severity, $4 device, $5 metric, $6 rule (id or name), $7 older than this alert; NULL: any. $8 rows at most
SELECT a.alert_id, d.external_id AS device, s.metric, s.unit,
       a.rule_id, v.definition->>'name' AS rule, a.rule_version,
       a.severity, a.state, a.value, a.evidence,
       a.breached_at, a.opened_at, a.acknowledged_at, a.resolved_at, a.late, a.historical
FROM alerts a
JOIN series s ON s.series_id = a.series_id
JOIN devices d ON d.device_id = s.device_id
JOIN rule_versions v ON v.rule_id = a.rule_id AND v.version = a.rule_version
WHERE ($1::uuid IS NULL OR a.alert_id = $1)
  AND ($2::text IS NULL OR a.state = $2)
  AND ($3::text IS NULL OR a.severity = $3)
  AND ($4::text IS NULL OR d.external_id = $4)
  AND ($5::text IS NULL OR s.metric = $5)
  AND ($6::text IS NULL OR v.definition->>'name' = $6 OR a.rule_id::text = lower($6))
  AND ($7::uuid IS NULL OR a.alert_id < $7)
ORDER BY a.alert_id DESC
LIMIT $8
