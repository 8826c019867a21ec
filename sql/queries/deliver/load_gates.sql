-- The destinations that can't be used as they are. Seconds from now: that it is held, that its breaker is open, that it
-- asked for a pause.
SELECT destination_id, state,
       greatest(coalesce(extract(epoch FROM held_until - now()), 0), 0)::float8,
       breaker_opened,
       greatest(coalesce(extract(epoch FROM breaker_open_until - now()), 0), 0)::float8,
       greatest(coalesce(extract(epoch FROM paused_until - now()), 0), 0)::float8
FROM destinations WHERE state <> 'active' OR breaker_opened > 0 OR paused_until > now()
