-- $1 workers: what they have in flight. Whoever locks many rows does it in their order.
SELECT o.notification_id, o.attempts, o.leased_by
FROM outbox o JOIN unnest($1::uuid[]) AS holder (worker_id) ON holder.worker_id = o.leased_by
WHERE o.status = 'in_flight'
ORDER BY o.notification_id
FOR UPDATE OF o
