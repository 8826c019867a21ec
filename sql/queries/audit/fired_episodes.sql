-- Each `opened` and `reopened` on a timeline is an episode that fired, and has become one of six things. Each is counted where
-- something else than the timeline's word says so, too:
-- * `notified`: a notice of its own told it, at once or when its silence or cooldown was over;
-- * `grouped`: a notice that tells of many alerts names it;
-- * `silenced`: a silence could keep it; a minute is allowed, because a silence counts in the time of the readings;
-- * `cooled_down`: its alert was open or had been before;
-- * `historical`: its alert says so, or turned out to burn later;
-- * `unrouted`: the rule named no destination that was there. The first episode fired by the version that the alert keeps; a
--   later one by that or one since.
SELECT count(*) AS fired,
       count(*) FILTER (WHERE e.disposition = 'notified' AND EXISTS (
         SELECT FROM notifications n
         WHERE n.alert_id = e.alert_id AND n.episode = e.episode AND n.event IN ('opened', 'reopened', 'still_burning')
       )) AS notified,
       count(*) FILTER (WHERE e.disposition = 'grouped' AND EXISTS (
         SELECT FROM notification_alerts n JOIN notifications USING (notification_id)
         WHERE n.alert_id = e.alert_id AND n.episode = e.episode
       )) AS grouped,
       count(*) FILTER (WHERE e.disposition = 'silenced' AND EXISTS (
         SELECT FROM silences s
         JOIN series ON series.series_id = a.series_id
         JOIN devices d ON d.device_id = series.device_id
         WHERE s.tenant_id = e.tenant_id
           AND (s.rule_id IS NULL OR s.rule_id = a.rule_id)
           AND (s.device_pattern IS NULL OR d.external_id LIKE replace(replace(replace(replace(
                 s.device_pattern, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%'))
           AND s.created_at <= e.at
           AND s.starts_at <= greatest(e.at, e.happened_at) + interval '1 minute'
           AND s.ends_at >= least(e.at, e.happened_at) - interval '1 minute'
       )) AS silenced,
       count(*) FILTER (WHERE e.disposition = 'cooled_down' AND e.kind = 'reopened') AS cooled_down,
       count(*) FILTER (WHERE e.disposition = 'historical' AND (a.historical OR EXISTS (
         SELECT FROM alert_events later
         WHERE later.alert_id = e.alert_id AND later.episode >= e.episode AND later.kind = 'still_burning'
           AND later.event_id > e.event_id
       ))) AS historical,
       count(*) FILTER (WHERE e.disposition = 'unrouted' AND EXISTS (
         SELECT FROM rule_versions v
         WHERE v.rule_id = a.rule_id
           AND (v.version = a.rule_version
                OR e.kind = 'reopened' AND v.version > a.rule_version AND v.changed_at <= e.at)
           AND NOT EXISTS (
             SELECT FROM jsonb_array_elements_text(v.definition->'destination_ids') AS named (id)
             JOIN destinations d ON d.destination_id = named.id::uuid AND d.tenant_id = e.tenant_id
             WHERE d.created_at <= e.at AND (d.archived_at IS NULL OR d.archived_at > e.at))
       )) AS unrouted
FROM alert_events e
JOIN alerts a ON a.alert_id = e.alert_id
WHERE e.kind IN ('opened', 'reopened') AND e.at >= (SELECT starts_at FROM history)
