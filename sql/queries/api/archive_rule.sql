-- $1 rule
UPDATE rules SET state = 'archived' WHERE rule_id = $1
