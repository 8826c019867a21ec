-- $1 rule, $2 state (NULL: all but archived ones; 'any'), $3 metric, $4 name, $5 older than this rule; NULL: any. $6 rows at most
SELECT r.rule_id, r.version, r.state, r.fault, r.created_at, r.updated_at, to_jsonb(r) AS columns,
       ARRAY(SELECT d.destination_id FROM destinations d
             WHERE d.destination_id = ANY (r.destination_ids) AND d.archived_at IS NULL) AS listening
FROM rules r
WHERE ($1::uuid IS NULL OR r.rule_id = $1)
  AND CASE WHEN $2::text IS NULL THEN r.state <> 'archived' ELSE $2 IN ('any', r.state) END
  AND ($3::text IS NULL OR r.metric = $3)
  AND ($4::text IS NULL OR r.name = $4)
  AND ($5::uuid IS NULL OR r.rule_id < $5)
ORDER BY r.rule_id DESC
LIMIT $6
