-- $1 worker. How many are alive, how many of them are older, and for how many seconds this one has been alive.
SELECT count(*)::int, count(*) FILTER (WHERE (w.started_at, w.worker_id) < (me.started_at, me.worker_id))::int,
       extract(epoch FROM now() - me.started_at)::float8
FROM workers me CROSS JOIN workers w
WHERE me.worker_id = $1
GROUP BY me.worker_id
