-- $1 days to keep
SELECT drop_expired_history($1)
