SELECT s.rule_id, s.series_id, s.last_fired_at, s.late_fired_at
FROM rule_state s JOIN rules r USING (rule_id) WHERE r.state = 'active'
