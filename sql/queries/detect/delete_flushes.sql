-- $1 flush ids
DELETE FROM flushes f USING unnest($1::bigint[]) AS settled (flush_id) WHERE f.flush_id = settled.flush_id
