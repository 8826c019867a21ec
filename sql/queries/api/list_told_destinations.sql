-- $1 destinations. Those that are still there.
SELECT destination_id, kind, settings
FROM destinations
WHERE destination_id = ANY ($1) AND archived_at IS NULL
ORDER BY destination_id
