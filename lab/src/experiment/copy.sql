-- Copies the recording that is attached as `recording` as the run ?1. Uses the views of docs/recording.md.

INSERT INTO intervals
    SELECT ?1, second, second + seconds, exits FROM recording.rate
    WHERE interval_id BETWEEN (SELECT min(interval_id) FROM recording.rate WHERE exits > 0)
                          AND (SELECT max(interval_id) FROM recording.rate WHERE exits > 0);
INSERT INTO reasons
    SELECT ?1, reason, sum(exits), sum(user_exits) FROM recording.by_reason GROUP BY reason;
INSERT INTO returns
    SELECT ?1, returned, sum(count) FROM recording.by_return GROUP BY returned;
INSERT INTO runs
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7,
        (SELECT isa FROM recording.reasons LIMIT 1),
        (SELECT sum(exits) FROM recording.hour_spans),
        (SELECT CASE count(*) WHEN count(kvm_exits) THEN sum(kvm_exits) END FROM recording.hour_spans),
        (SELECT coalesce(sum(count), 0) FROM recording.hour_losses),
        (SELECT sum(ends - begins) FROM intervals WHERE run = ?1);
