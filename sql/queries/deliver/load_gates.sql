-- The destinations that can't be used as they are; the last column: seconds that it is still held.
SELECT destination_id, state, greatest(coalesce(extract(epoch FROM held_until - now()), 0), 0)::float8
FROM destinations WHERE state <> 'active'
