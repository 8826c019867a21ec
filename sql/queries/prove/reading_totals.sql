-- Stored, stored apart from each other, in the rollups, rejected. Counted series by series: DISTINCT over both columns of
-- two million readings takes minutes in the little memory that a statement has.
SELECT (SELECT count(*) FROM readings),
       (SELECT coalesce(sum(n), 0)::bigint FROM (SELECT count(DISTINCT ts) AS n FROM readings GROUP BY series_id) AS apart),
       (SELECT coalesce(sum(count), 0)::bigint FROM readings_1m),
       (SELECT count(*) FROM rejected_readings)
