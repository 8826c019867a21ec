-- $1 destinations
SELECT destination_id, name, archived_at FROM destinations WHERE destination_id = ANY ($1::uuid[])
