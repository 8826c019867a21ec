SELECT (SELECT coalesce(sum(count), 0) FROM readings_1m)::bigint
         + (SELECT coalesce(sum(readings), 0) FROM flushes)::bigint,
       (SELECT count(*) FROM alerts),
       (SELECT count(*) FROM delivery_attempts WHERE outcome = 'delivered')
