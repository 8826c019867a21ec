-- Alerts of the last 24 hours that are not resolved, by severity.
SELECT severity, count(*) AS count
FROM alerts
WHERE alert_id >= first_uuid_at(now() - interval '24 hours') AND state <> 'resolved'
GROUP BY severity
