-- $1 notification
SELECT body FROM notifications WHERE notification_id = $1
