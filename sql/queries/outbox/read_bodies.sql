-- $1 notifications, $2 the lowest of them, $3 the highest: no other day is opened
SELECT notification_id, body FROM notifications WHERE notification_id = ANY ($1) AND notification_id BETWEEN $2 AND $3
