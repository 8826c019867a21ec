-- $1 name, $2 holder, $3 epoch
UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1 AND holder = $2 AND epoch = $3
