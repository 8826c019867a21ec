-- $1 alert
SELECT tenant_id FROM alerts WHERE alert_id = $1
