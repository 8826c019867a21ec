-- $1 rule
UPDATE rules SET state = 'active', fault = NULL WHERE rule_id = $1
