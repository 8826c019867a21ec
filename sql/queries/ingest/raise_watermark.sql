-- $1 stream, $2 everything that came before is stored; it only ever rises
INSERT INTO watermarks AS w (stream, heard_until) VALUES ($1, $2)
ON CONFLICT (stream) DO UPDATE SET heard_until = excluded.heard_until, recorded_at = now()
WHERE w.heard_until < excluded.heard_until
