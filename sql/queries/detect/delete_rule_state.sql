-- arrays: $1 rules, $2 series ids, that are at rest. By place: a join could be planned as a walk while the table is empty.
DELETE FROM rule_state s USING unnest($1::uuid[], $2::int[]) AS rest (rule_id, series_id)
WHERE s.ctid = (SELECT k.ctid FROM rule_state k WHERE k.rule_id = rest.rule_id AND k.series_id = rest.series_id)
