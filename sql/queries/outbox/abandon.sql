-- $1 days that a dead letter waits, $2 so many at most. What somebody has in his hands, to send it again, is passed by.
WITH given_up AS MATERIALIZED (
  SELECT notification_id FROM dead_letters
  WHERE abandoned_at IS NULL AND died_at <= now() - make_interval(days => $1)
  ORDER BY died_at
  LIMIT $2
  FOR UPDATE SKIP LOCKED
)
UPDATE dead_letters x SET abandoned_at = now() FROM given_up WHERE x.notification_id = given_up.notification_id
