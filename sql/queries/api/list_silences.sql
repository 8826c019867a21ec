-- $1 silence, $2 state, $3 behind this silence in the list; NULL: any. $4 rows at most. Active ones first, then pending, then
-- ended ones; of each the newest first.
WITH known AS (
  SELECT s.*, CASE WHEN s.ended_by IS NOT NULL OR s.ends_at <= now() THEN 'ended'
                   WHEN s.starts_at > now() THEN 'pending'
                   ELSE 'active' END AS state
  FROM silences s
), placed AS (
  SELECT known.*, array_position(ARRAY['active', 'pending', 'ended'], state) AS place FROM known
)
SELECT p.silence_id, p.state, p.rule_id, r.name AS rule, p.device_pattern, p.device_tags, p.starts_at, p.ends_at,
       p.created_by, p.created_at, p.reason, p.ended_by
FROM placed p
LEFT JOIN rules r ON r.rule_id = p.rule_id
WHERE ($1::uuid IS NULL OR p.silence_id = $1)
  AND ($2::text IS NULL OR p.state = $2)
  AND ($3::uuid IS NULL OR EXISTS (
    SELECT FROM placed b
    WHERE b.silence_id = $3 AND (p.place > b.place OR p.place = b.place AND p.silence_id < b.silence_id)))
ORDER BY p.place, p.silence_id DESC
LIMIT $4
