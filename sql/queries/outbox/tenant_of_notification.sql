-- $1 notification
SELECT tenant_id FROM notifications WHERE notification_id = $1
