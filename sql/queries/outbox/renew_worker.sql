-- $1 worker, $2 seconds to live
UPDATE workers SET expires_at = clock_timestamp() + make_interval(secs => $2)
WHERE worker_id = $1 AND expires_at > clock_timestamp()
