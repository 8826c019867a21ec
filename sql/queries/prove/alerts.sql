-- With whether a notification tells that it is open, alone or with others, and whether one tells that it is over.
WITH told AS (
  SELECT alert_id, event FROM notifications WHERE alert_id IS NOT NULL
  UNION
  SELECT l.alert_id, n.event FROM notification_alerts l JOIN notifications n USING (notification_id)
)
SELECT rule_id, series_id, breached_at, ended_at, late,
       EXISTS (SELECT FROM told WHERE told.alert_id = a.alert_id AND told.event = 'opened'),
       EXISTS (SELECT FROM told WHERE told.alert_id = a.alert_id AND told.event = 'resolved')
FROM alerts a
