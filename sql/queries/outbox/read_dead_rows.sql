-- $1 table. How many of its rows are dead, how many live, and seconds since anybody vacuumed it; NULL: nobody ever did.
SELECT pg_stat_get_dead_tuples(t.oid), pg_stat_get_live_tuples(t.oid),
       extract(epoch FROM clock_timestamp()
               - greatest(pg_stat_get_last_vacuum_time(t.oid), pg_stat_get_last_autovacuum_time(t.oid)))::float8
FROM CAST($1::text AS regclass) AS t (oid)
