-- $1 the worker that looks: it is alive. Returns those that gave no sign of life; whoever deletes one rescues its rows.
DELETE FROM workers
WHERE worker_id IN (SELECT worker_id FROM workers WHERE expires_at <= clock_timestamp() AND worker_id <> $1
                    FOR UPDATE SKIP LOCKED)
RETURNING worker_id
