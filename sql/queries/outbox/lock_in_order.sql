-- $1 notification ids, ascending: whoever locks many rows does it in their order.
SELECT FROM unnest($1::uuid[]) AS wanted (notification_id)
CROSS JOIN LATERAL (SELECT FROM outbox o WHERE o.notification_id = wanted.notification_id FOR UPDATE) AS locked
