-- Alerts of breaches that were old when they were judged and are not known to be over.
SELECT a.alert_id, a.tenant_id, a.rule_id, a.rule_version, a.series_id, a.severity, a.breached_at, a.value, a.evidence, a.late
FROM rule_state s
JOIN rules r ON r.rule_id = s.rule_id AND r.state = 'active'
JOIN alerts a ON a.alert_id = s.burning_alert_id
