-- $1 worker, $2 host, $3 process id, $4 seconds to live
INSERT INTO workers (worker_id, host, pid, expires_at)
VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
