-- arrays: $1 rules, $2 series ids, that are at rest
DELETE FROM rule_state s USING unnest($1::uuid[], $2::int[]) AS rest (rule_id, series_id)
WHERE s.rule_id = rest.rule_id AND s.series_id = rest.series_id
