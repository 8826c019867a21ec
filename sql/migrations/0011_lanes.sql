-- A claim writes no index: the lease stands beside the due time, and a page has room for the second version of each of its rows.

ALTER TABLE outbox
  ADD COLUMN leased_until timestamptz,
  DROP CONSTRAINT outbox_lane_class_check;
-- Severity first; in each, first attempts before retries: twice the severity, and one more after an attempt that failed.
UPDATE outbox
SET lane_class = 2 * lane_class + (attempts > 1 OR (attempts > 0 AND status <> 'in_flight'))::int,
    leased_until = CASE WHEN status = 'in_flight' THEN next_attempt_at END;
ALTER TABLE outbox
  ADD CONSTRAINT outbox_lane_class_check CHECK (lane_class BETWEEN 0 AND 7),
  SET (fillfactor = 45);
