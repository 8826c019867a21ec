-- $1 days that a dead letter waits
UPDATE dead_letters SET abandoned_at = now()
WHERE abandoned_at IS NULL AND died_at <= now() - make_interval(days => $1)
