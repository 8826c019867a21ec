-- Milliseconds from the commit of the reading that decided an alert to the commit of the alert, ascending; $1 of readings from
-- then on. An alert's row is changed during its life: `xid` is the transaction that made it.
SELECT (extract(epoch FROM pg_xact_commit_timestamp(a.xid::xid) - pg_xact_commit_timestamp(r.xmin)) * 1000)::float8
FROM alerts a JOIN readings r ON r.series_id = a.series_id AND r.ts = a.decided_at
WHERE a.decided_at >= $1
ORDER BY 1
