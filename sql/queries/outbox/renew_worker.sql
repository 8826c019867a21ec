-- $1 worker, $2 seconds to live. Late or not: whoever takes it for dead deletes the row.
UPDATE workers SET expires_at = clock_timestamp() + make_interval(secs => $2) WHERE worker_id = $1
