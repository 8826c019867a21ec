-- $1 rule. Until the transaction ends nobody else changes it.
SELECT rule_id, version, state FROM rules WHERE rule_id = $1 FOR NO KEY UPDATE
