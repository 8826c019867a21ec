-- A late record stands beside the `unknown` of the same attempt: it is one attempt.
SELECT v.notification_id, v.status, n.body,
       (SELECT count(*) FROM delivery_attempts a WHERE a.notification_id = n.notification_id AND NOT a.late)
FROM deliveries v JOIN notifications n USING (notification_id)
