-- $1 notification. The alerts that it tells of, if they are many.
SELECT alert_id FROM notification_alerts WHERE notification_id = $1 ORDER BY alert_id
