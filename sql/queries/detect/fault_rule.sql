-- $1 rule, $2 why
UPDATE rules SET state = 'faulted', fault = $2 WHERE rule_id = $1
