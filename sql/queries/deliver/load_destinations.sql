-- The last column: seconds that it is still held. Archived ones too: what is owed to them is still owed.
SELECT destination_id, name, kind, settings, secret, policy, state,
       greatest(coalesce(extract(epoch FROM held_until - now()), 0), 0)::float8
FROM destinations
ORDER BY destination_id
