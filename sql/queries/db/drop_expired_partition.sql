-- $1 table, $2 days to keep, $3 days that are accepted
SELECT drop_expired_partition($1, $2, $3)
