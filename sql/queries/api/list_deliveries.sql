-- $1 notification, $2 status, $3 destination (id or name), $4 alert, $5 older than this notification; NULL: any. $6 rows at most.
-- An alert's deliveries are its own and those that tell of it among many; `alerts` is of how many one tells.
SELECT d.notification_id, d.alert_id, d.destination_id, destination, destination_kind, event, d.created_at,
       status, attempts, next_attempt_at, leased_by, leased_at,
       last_attempt_at, last_status_code, last_error, warning, delivered_at, dead_reason, died_at, waits_for,
       greatest((SELECT count(*) FROM notification_alerts t WHERE t.notification_id = d.notification_id), 1) AS alerts,
       CASE WHEN whom.state <> 'active' THEN whom.state
            WHEN whom.breaker_opened > 0 THEN 'broken'
            WHEN whom.paused_until > now() THEN 'paused'
            ELSE 'active' END AS destination_state,
       CASE WHEN whom.state <> 'active' THEN whom.state_reason WHEN whom.breaker_opened > 0 THEN whom.breaker_reason END
         AS destination_reason,
       CASE WHEN whom.state = 'held' THEN whom.held_until
            WHEN whom.state = 'active' THEN greatest(whom.breaker_open_until, whom.paused_until) END AS destination_opens_at
FROM deliveries d JOIN destinations whom ON whom.destination_id = d.destination_id
WHERE ($1::uuid IS NULL OR d.notification_id = $1)
  AND ($2::text IS NULL OR status = $2)
  AND ($3::text IS NULL OR destination = $3 OR d.destination_id::text = lower($3))
  AND ($4::uuid IS NULL OR d.notification_id = ANY (ARRAY(
    SELECT notification_id FROM notifications WHERE alert_id = $4
    UNION
    SELECT notification_id FROM notification_alerts WHERE alert_id = $4)))
  AND ($5::uuid IS NULL OR d.notification_id < $5)
ORDER BY d.notification_id DESC
LIMIT $6
