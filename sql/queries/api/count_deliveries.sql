-- What is owed and what was given up, whenever it began; what was delivered of the last 24 hours' notifications.
SELECT status, count(*) AS count FROM outbox GROUP BY status
UNION ALL
SELECT 'dead', count(*) FROM dead_letters WHERE abandoned_at IS NULL
UNION ALL
SELECT 'delivered', count(*)
FROM notifications n
WHERE n.notification_id >= first_uuid_at(now() - interval '24 hours')
  AND EXISTS (SELECT FROM delivery_attempts a
              WHERE a.notification_id = n.notification_id AND a.outcome = 'delivered')
