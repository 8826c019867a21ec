-- Attempts are numbered 1, 2, 3 .. without a gap; the one that is under way is not on record yet.
SELECT count(*)
FROM (
  SELECT n.notification_id, count(a.attempt) AS recorded, coalesce(max(a.attempt), 0) AS highest
  FROM notifications n
  LEFT JOIN delivery_attempts a ON a.notification_id = n.notification_id AND NOT a.late
  GROUP BY n.notification_id
) AS r
LEFT JOIN outbox o USING (notification_id)
WHERE r.recorded <> r.highest
   OR o.attempts <> r.highest + CASE WHEN o.status = 'in_flight' THEN 1 ELSE 0 END
