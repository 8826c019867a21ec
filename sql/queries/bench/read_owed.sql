-- The limit of claiming: $3 rows at most after $1 and up to $2, in the order of their ids. Nobody else may want them.
SELECT o.notification_id, o.tenant_id, o.destination_id, n.body
FROM outbox o JOIN notifications n ON n.notification_id = o.notification_id
WHERE o.notification_id > $1 AND o.notification_id <= $2
ORDER BY o.notification_id
LIMIT $3
