-- Rows of intervals are packed: by column, in blocks of some intervals, and again by minute and by hour. What sums up an hour is
-- in plain tables too, for who reads with SQL alone.
DROP VIEW by_worker;
DROP VIEW by_detail;
DROP VIEW by_port;
DROP VIEW by_msr;
DROP VIEW by_mode;
DROP VIEW details;
DROP VIEW modes;
DROP VIEW returns;
DROP VIEW breakdown_rows;
DROP VIEW console_lines;
DROP VIEW by_phase;
DROP VIEW phase_of_interval;
DROP VIEW exit_rows;
DROP VIEW by_reason;
DROP VIEW by_vcpu;
DROP VIEW rate;
DROP VIEW rate_by_reason;
DROP VIEW by_second;
DROP VIEW by_return;
DROP TABLE spans;
DROP TABLE exits;
DROP TABLE nested;
DROP TABLE breakdown_counts;
DROP TABLE losses;
DROP TABLE workers;
DROP TABLE intervals;

CREATE TABLE intervals (
    id INTEGER PRIMARY KEY,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    offset_ns INTEGER NOT NULL,
    length_ns INTEGER NOT NULL,
    exits INTEGER NOT NULL
) STRICT;
CREATE INDEX interval_at ON intervals (offset_ns);
CREATE TABLE minutes (
    id INTEGER PRIMARY KEY,
    last_interval INTEGER NOT NULL,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    offset_ns INTEGER NOT NULL,
    length_ns INTEGER NOT NULL,
    exits INTEGER NOT NULL
) STRICT;
CREATE TABLE hours (
    id INTEGER PRIMARY KEY,
    last_interval INTEGER NOT NULL,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    offset_ns INTEGER NOT NULL,
    length_ns INTEGER NOT NULL,
    exits INTEGER NOT NULL
) STRICT;
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    first_interval INTEGER NOT NULL,
    last_interval INTEGER NOT NULL,
    totals BLOB NOT NULL,
    rows BLOB NOT NULL
) STRICT;
CREATE TABLE hour_spans (
    hour INTEGER NOT NULL,
    vcpu INTEGER NOT NULL,
    exits INTEGER NOT NULL,
    kvm_exits INTEGER,
    guest_ns INTEGER,
    kernel_ns INTEGER,
    user_ns INTEGER,
    waiting_ns INTEGER,
    halted_ns INTEGER,
    polled_ns INTEGER,
    PRIMARY KEY (hour, vcpu)
) STRICT, WITHOUT ROWID;
CREATE TABLE hour_exits (
    hour INTEGER NOT NULL,
    vcpu INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    count INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    min_ns INTEGER,
    max_ns INTEGER,
    user_exits INTEGER NOT NULL,
    user_ns INTEGER NOT NULL,
    waiting_ns INTEGER NOT NULL,
    halted_ns INTEGER NOT NULL,
    polled_ns INTEGER NOT NULL,
    to_l1 INTEGER NOT NULL,
    l1_done INTEGER NOT NULL,
    l1_exits INTEGER NOT NULL,
    l1_ns INTEGER NOT NULL,
    histogram BLOB NOT NULL,
    PRIMARY KEY (hour, vcpu, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE hour_breakdowns (
    hour INTEGER NOT NULL,
    vcpu INTEGER NOT NULL,
    breakdown INTEGER NOT NULL,
    count INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    max_ns INTEGER NOT NULL,
    PRIMARY KEY (hour, vcpu, breakdown)
) STRICT, WITHOUT ROWID;
CREATE TABLE hour_workers (
    hour INTEGER NOT NULL,
    vm INTEGER NOT NULL,
    span_ns INTEGER NOT NULL,
    main_cpu_ns INTEGER NOT NULL,
    main_waiting_ns INTEGER NOT NULL,
    io_cpu_ns INTEGER NOT NULL,
    io_waiting_ns INTEGER NOT NULL,
    other_cpu_ns INTEGER NOT NULL,
    other_waiting_ns INTEGER NOT NULL,
    vhost_cpu_ns INTEGER NOT NULL,
    vhost_waiting_ns INTEGER NOT NULL,
    kvm_cpu_ns INTEGER NOT NULL,
    kvm_waiting_ns INTEGER NOT NULL,
    PRIMARY KEY (hour, vm)
) STRICT, WITHOUT ROWID;
CREATE TABLE hour_losses (
    hour INTEGER NOT NULL,
    figure TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (hour, figure)
) STRICT, WITHOUT ROWID;

CREATE VIEW moments AS
    SELECT 'hour' AS resolution, id AS first_interval, last_interval, start_ns, end_ns, offset_ns, length_ns, exits
    FROM hours WHERE last_interval < coalesce((SELECT min(id) FROM minutes), 1 << 62)
        AND last_interval < coalesce((SELECT min(id) FROM intervals), 1 << 62)
    UNION ALL
    SELECT 'minute', id, last_interval, start_ns, end_ns, offset_ns, length_ns, exits
    FROM minutes WHERE last_interval < coalesce((SELECT min(id) FROM intervals), 1 << 62)
    UNION ALL
    SELECT 'full', id, id, start_ns, end_ns, offset_ns, length_ns, exits FROM intervals;
CREATE VIEW rate AS
    SELECT first_interval AS interval_id, strftime('%Y-%m-%d %H:%M:%f', start_ns / 1e9, 'unixepoch') AS start,
        offset_ns / 1e9 AS second, length_ns / 1e9 AS seconds, exits, round(exits * 1e9 / length_ns, 2) AS per_second
    FROM moments ORDER BY first_interval;
CREATE VIEW by_second AS
    SELECT offset_ns / 1000000000 AS second, sum(exits) AS exits FROM moments GROUP BY 1 ORDER BY 1;
CREATE VIEW by_reason AS
    SELECT r.level, r.name AS reason, sum(e.count) AS exits,
        round(100.0 * sum(e.count) / (SELECT sum(exits) FROM hour_spans), 2) AS percent,
        round(sum(e.count) * 1e9 / (SELECT sum(length_ns) FROM moments), 2) AS per_second,
        sum(e.time_ns) AS time_ns, min(e.min_ns) AS min_ns, max(e.max_ns) AS max_ns, sum(e.user_exits) AS user_exits
    FROM hour_exits e JOIN reasons r ON r.id = e.reason
    GROUP BY r.id
    ORDER BY exits DESC;
CREATE VIEW by_vcpu AS
    SELECT m.name AS vm, m.pid, m.id AS vm_id, v.number AS vcpu, sum(s.exits) AS exits, sum(s.kvm_exits) AS kvm_exits,
        round(sum(s.exits) * 1e9 / (SELECT sum(length_ns) FROM moments), 2) AS per_second,
        sum(s.guest_ns) AS guest_ns, sum(s.kernel_ns) AS kernel_ns, sum(s.user_ns) AS user_ns,
        sum(s.waiting_ns) AS waiting_ns, sum(s.halted_ns) AS halted_ns, sum(s.polled_ns) AS polled_ns
    FROM vcpus v JOIN vms m ON m.id = v.vm LEFT JOIN hour_spans s ON s.vcpu = v.id
    GROUP BY v.id
    ORDER BY exits DESC;
CREATE VIEW by_worker AS
    SELECT m.name AS vm, m.pid, m.id AS vm_id, sum(w.span_ns) AS span_ns,
        sum(w.main_cpu_ns) AS main_cpu_ns, sum(w.main_waiting_ns) AS main_waiting_ns,
        sum(w.io_cpu_ns) AS io_cpu_ns, sum(w.io_waiting_ns) AS io_waiting_ns,
        sum(w.other_cpu_ns) AS other_cpu_ns, sum(w.other_waiting_ns) AS other_waiting_ns,
        sum(w.vhost_cpu_ns) AS vhost_cpu_ns, sum(w.vhost_waiting_ns) AS vhost_waiting_ns,
        sum(w.kvm_cpu_ns) AS kvm_cpu_ns, sum(w.kvm_waiting_ns) AS kvm_waiting_ns
    FROM hour_workers w JOIN vms m ON m.id = w.vm
    GROUP BY m.id
    ORDER BY m.id;
CREATE VIEW hour_rows AS
    SELECT h.offset_ns / 3600000000000 AS hour, m.name AS vm, m.pid, m.id AS vm_id, v.number AS vcpu, r.level, r.isa, r.code,
        r.name AS reason, e.count, e.time_ns, e.time_ns - e.user_ns - e.waiting_ns - e.halted_ns AS kernel_ns, e.user_ns,
        e.waiting_ns, e.halted_ns, e.polled_ns, e.min_ns, e.max_ns, e.user_exits
    FROM hour_exits e
    JOIN hours h ON h.id = e.hour
    JOIN vcpus v ON v.id = e.vcpu
    JOIN vms m ON m.id = v.vm
    JOIN reasons r ON r.id = e.reason;
CREATE VIEW hour_details AS
    SELECT w.hour, w.vcpu, b.reason, b.kind, b.key AS number, b.attributes & 1 AS write, b.attributes, b.text, b.name,
        w.count, w.time_ns, w.max_ns
    FROM hour_breakdowns w JOIN breakdowns b ON b.id = w.breakdown WHERE b.kind NOT IN ('return', 'mode');
CREATE VIEW by_return AS
    SELECT r.level, r.name AS reason, u.name AS returned, sum(w.count) AS count
    FROM hour_breakdowns w JOIN breakdowns b ON b.id = w.breakdown AND b.kind = 'return'
        JOIN reasons r ON r.id = b.reason JOIN user_reasons u ON u.id = b.key
    GROUP BY r.id, u.id
    ORDER BY count DESC;
CREATE VIEW by_detail AS
    SELECT d.kind, d.text AS detail, d.name, sum(d.count) AS exits, sum(d.time_ns) AS time_ns, max(d.max_ns) AS max_ns
    FROM hour_details d GROUP BY d.kind, d.number, d.attributes ORDER BY exits DESC;
CREATE VIEW by_port AS
    SELECT printf('0x%x', d.number) AS port, CASE d.write WHEN 1 THEN 'out' ELSE 'in' END AS direction, d.name,
        sum(d.count) AS exits, sum(d.time_ns) AS time_ns, max(d.max_ns) AS max_ns
    FROM hour_details d WHERE d.kind = 'port' GROUP BY d.number, d.write ORDER BY exits DESC;
CREATE VIEW by_msr AS
    SELECT printf('0x%x', d.number) AS msr, CASE d.write WHEN 1 THEN 'write' ELSE 'read' END AS direction, d.name,
        sum(d.count) AS exits, sum(d.time_ns) AS time_ns, max(d.max_ns) AS max_ns
    FROM hour_details d WHERE d.kind = 'msr' GROUP BY d.number, d.write ORDER BY exits DESC;
CREATE VIEW by_mode AS
    SELECT r.level, b.name AS mode, sum(w.count) AS exits
    FROM hour_breakdowns w JOIN breakdowns b ON b.id = w.breakdown AND b.kind = 'mode'
        JOIN reasons r ON r.id = b.reason
    GROUP BY r.level, b.name ORDER BY exits DESC;
CREATE VIEW phase_of_interval AS
    SELECT i.first_interval AS interval_id, (SELECT p.id FROM phases p WHERE p.first_interval <= i.last_interval
        ORDER BY p.first_interval DESC, p.id DESC LIMIT 1) AS phase
    FROM moments i;
CREATE VIEW by_phase AS
    SELECT p.name AS phase, min(i.offset_ns) / 1e9 AS second, total(i.length_ns) / 1e9 AS seconds,
        coalesce(sum(i.exits), 0) AS exits, round(coalesce(sum(i.exits), 0) * 1e9 / sum(i.length_ns), 2) AS per_second
    FROM phases p LEFT JOIN phase_of_interval o ON o.phase = p.id LEFT JOIN moments i ON i.first_interval = o.interval_id
    GROUP BY p.id
    ORDER BY p.first_interval, p.id;
CREATE VIEW console_lines AS
    SELECT c.at_ns / 1e9 AS second, p.name AS phase, r.per_second, c.text
    FROM console c
    LEFT JOIN rate r ON r.interval_id = coalesce(
        (SELECT i.id FROM intervals i WHERE i.offset_ns <= c.at_ns ORDER BY i.offset_ns DESC LIMIT 1),
        (SELECT max(m.id) FROM minutes m WHERE m.offset_ns <= c.at_ns),
        (SELECT max(h.id) FROM hours h WHERE h.offset_ns <= c.at_ns))
    LEFT JOIN phase_of_interval o ON o.interval_id = r.interval_id
    LEFT JOIN phases p ON p.id = o.phase
    ORDER BY c.id;
