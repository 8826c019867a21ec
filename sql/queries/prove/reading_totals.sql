-- Stored, stored apart from each other, in the rollups, rejected.
SELECT (SELECT count(*) FROM readings),
       (SELECT count(*) FROM (SELECT DISTINCT series_id, ts FROM readings) AS apart),
       (SELECT coalesce(sum(count), 0)::bigint FROM readings_1m),
       (SELECT count(*) FROM rejected_readings)
