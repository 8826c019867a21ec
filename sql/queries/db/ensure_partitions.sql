-- $1 tables, $2 days (UTC)
SELECT ensure_partition(parent, day)
FROM unnest($1::text[]) AS parent CROSS JOIN unnest($2::date[]) AS day
ORDER BY parent, day
