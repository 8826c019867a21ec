-- $1 flush, $2 why
UPDATE flushes SET quarantine_reason = $2 WHERE flush_id = $1
