-- $1 alert, $2 state, $3 severity, $4 class, $5 whether silenced, $6 device, $7 name and $8 value of a tag, $9 metric, $10 rule
-- (id or name), $11 older than this alert; NULL: any. $12 rows at most. The points come with the single one only.
SELECT a.alert_id, d.external_id AS device, a.device_tags, s.metric, s.unit,
       a.rule_id, v.definition->>'name' AS rule, a.rule_version,
       coalesce(v.definition->'labels', '{}') AS labels, v.definition->>'runbook_url' AS runbook_url,
       a.severity, a.state, a.class, a.summary, a.value, a.evidence,
       a.breached_at, a.fired_at, a.decided_at, a.ended_at, a.opened_at, a.acknowledged_at, a.acknowledged_by,
       a.resolved_at, a.resolved_by, a.episodes, a.silence_id, a.told, a.told_at, a.late, a.historical,
       CASE WHEN $1::uuid IS NOT NULL THEN a.points END AS points
FROM alerts a
JOIN series s ON s.series_id = a.series_id
JOIN devices d ON d.device_id = s.device_id
JOIN rule_versions v ON v.rule_id = a.rule_id AND v.version = a.rule_version
WHERE ($1::uuid IS NULL OR a.alert_id = $1)
  AND ($2::text IS NULL OR a.state = $2)
  AND ($3::text IS NULL OR a.severity = $3)
  AND ($4::text IS NULL OR a.class = $4)
  AND ($5::boolean IS NULL OR (a.silence_id IS NOT NULL) = $5)
  AND ($6::text IS NULL OR d.external_id = $6)
  AND ($7::text IS NULL OR a.device_tags->>$7 = $8::text)
  AND ($9::text IS NULL OR s.metric = $9)
  AND ($10::text IS NULL OR v.definition->>'name' = $10 OR a.rule_id::text = lower($10))
  AND ($11::uuid IS NULL OR a.alert_id < $11)
ORDER BY a.alert_id DESC
LIMIT $12
