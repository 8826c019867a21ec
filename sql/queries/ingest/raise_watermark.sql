-- $1 stream, $2 everything that came before is stored; it only ever rises, and never above the database's clock
INSERT INTO watermarks AS w (stream, heard_until) VALUES ($1, least($2, clock_timestamp()))
ON CONFLICT (stream) DO UPDATE SET heard_until = excluded.heard_until, recorded_at = now()
WHERE w.heard_until < excluded.heard_until
