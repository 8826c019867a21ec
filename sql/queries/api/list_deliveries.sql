-- $1 notification, $2 status, $3 destination (id or name), $4 alert, $5 older than this notification; NULL: any. $6 rows at most.
-- An alert's deliveries are its own and those that tell of it among many; `alerts` is of how many one tells.
SELECT notification_id, alert_id, destination_id, destination, destination_kind, event, created_at,
       status, attempts, next_attempt_at, leased_by, leased_at,
       last_attempt_at, last_status_code, last_error, warning, delivered_at, dead_reason, died_at,
       greatest((SELECT count(*) FROM notification_alerts t WHERE t.notification_id = d.notification_id), 1) AS alerts
FROM deliveries d
WHERE ($1::uuid IS NULL OR notification_id = $1)
  AND ($2::text IS NULL OR status = $2)
  AND ($3::text IS NULL OR destination = $3 OR destination_id::text = lower($3))
  AND ($4::uuid IS NULL OR notification_id = ANY (ARRAY(
    SELECT notification_id FROM notifications WHERE alert_id = $4
    UNION
    SELECT notification_id FROM notification_alerts WHERE alert_id = $4)))
  AND ($5::uuid IS NULL OR notification_id < $5)
ORDER BY notification_id DESC
LIMIT $6
