-- What a series was in is looked up by the series: in the primary key the rule comes first, and each look walked over all of it.
CREATE INDEX ON rule_state (series_id);
