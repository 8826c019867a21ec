-- $1 name, $2 holder, $3 epoch, $4 seconds to live
UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $4)
WHERE name = $1 AND holder = $2 AND epoch = $3
