-- $1 name, $2 holder, $3 seconds to live. SKIP LOCKED: a holder's transaction that is under way holds the row. A holder that
-- asks again has lost its memory: the higher epoch fences what it may have left behind.
WITH expired AS (
  SELECT name FROM leases WHERE name = $1 AND (expires_at <= clock_timestamp() OR holder = $2) FOR UPDATE SKIP LOCKED
), taken AS (
  UPDATE leases l
  SET holder = $2, epoch = l.epoch + 1, expires_at = clock_timestamp() + make_interval(secs => $3)
  FROM expired WHERE l.name = expired.name
  RETURNING l.epoch
), created AS (
  INSERT INTO leases (name, holder, epoch, expires_at)
  SELECT $1, $2, 1, clock_timestamp() + make_interval(secs => $3)
  WHERE NOT EXISTS (SELECT FROM leases WHERE name = $1)
  ON CONFLICT DO NOTHING
  RETURNING epoch
)
SELECT epoch FROM taken UNION ALL SELECT epoch FROM created
