-- Alerts that are not resolved, by severity.
SELECT severity, count(*) AS count FROM alerts WHERE state <> 'resolved' GROUP BY severity
