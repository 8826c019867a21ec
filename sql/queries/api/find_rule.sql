-- $1 name or id. The rule that has it now.
SELECT rule_id FROM rules WHERE state <> 'archived' AND (name = $1 OR rule_id::text = lower($1)) ORDER BY name = $1 DESC LIMIT 1
