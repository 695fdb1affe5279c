-- What exits were about, and what KVM_RUN returned with: each pair of a reason and such a thing once, and for each interval and
-- vCPU one blob of counts. A row for each count, as the first version had them for returns, takes four times the room.
CREATE TABLE uses (
    id INTEGER PRIMARY KEY,
    reason INTEGER NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER,
    write INTEGER,
    name TEXT NOT NULL
) STRICT;
CREATE TABLE used (
    interval_id INTEGER NOT NULL,
    vcpu INTEGER NOT NULL,
    counts BLOB NOT NULL,
    PRIMARY KEY (interval_id, vcpu)
) STRICT, WITHOUT ROWID;
CREATE TABLE console (
    id INTEGER PRIMARY KEY,
    at_ns INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE TABLE marks (
    id INTEGER PRIMARY KEY,
    at_ns INTEGER NOT NULL,
    origin TEXT NOT NULL,
    port INTEGER,
    value INTEGER,
    text TEXT NOT NULL
) STRICT;
CREATE TABLE phases (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    first_interval INTEGER NOT NULL
) STRICT;

CREATE VIEW use_rows AS
    WITH RECURSIVE entries (interval_id, vcpu, bytes, key_digits, count_digits, at) AS (
        SELECT interval_id, vcpu, hex(counts), 2 * substr(hex(counts), 2, 1), 2 * substr(hex(counts), 4, 1), 5
        FROM used WHERE length(counts) > 2
        UNION ALL
        SELECT interval_id, vcpu, bytes, key_digits, count_digits, at + key_digits + count_digits
        FROM entries WHERE at + key_digits + count_digits < length(bytes) AND key_digits > 0
    ), texts (interval_id, vcpu, use_text, count_text) AS (
        SELECT interval_id, vcpu, substr('0000' || substr(bytes, at, key_digits), -4),
            substr('0000000000000000' || substr(bytes, at + key_digits, count_digits), -16)
        FROM entries
    )
    SELECT interval_id, vcpu,
        (instr('123456789ABCDEF', substr(use_text, 1, 1)) << 12) + (instr('123456789ABCDEF', substr(use_text, 2, 1)) << 8) +
        (instr('123456789ABCDEF', substr(use_text, 3, 1)) << 4) + instr('123456789ABCDEF', substr(use_text, 4, 1)) AS use_id,
        (instr('123456789ABCDEF', substr(count_text, 1, 1)) << 60) +
        (instr('123456789ABCDEF', substr(count_text, 2, 1)) << 56) +
        (instr('123456789ABCDEF', substr(count_text, 3, 1)) << 52) +
        (instr('123456789ABCDEF', substr(count_text, 4, 1)) << 48) +
        (instr('123456789ABCDEF', substr(count_text, 5, 1)) << 44) +
        (instr('123456789ABCDEF', substr(count_text, 6, 1)) << 40) +
        (instr('123456789ABCDEF', substr(count_text, 7, 1)) << 36) +
        (instr('123456789ABCDEF', substr(count_text, 8, 1)) << 32) +
        (instr('123456789ABCDEF', substr(count_text, 9, 1)) << 28) +
        (instr('123456789ABCDEF', substr(count_text, 10, 1)) << 24) +
        (instr('123456789ABCDEF', substr(count_text, 11, 1)) << 20) +
        (instr('123456789ABCDEF', substr(count_text, 12, 1)) << 16) +
        (instr('123456789ABCDEF', substr(count_text, 13, 1)) << 12) +
        (instr('123456789ABCDEF', substr(count_text, 14, 1)) << 8) +
        (instr('123456789ABCDEF', substr(count_text, 15, 1)) << 4) + instr('123456789ABCDEF', substr(count_text, 16, 1)) AS count
    FROM texts;

DROP TABLE returns;
CREATE VIEW returns AS
    SELECT w.interval_id, w.vcpu, u.reason, u.number AS user_reason, w.count
    FROM use_rows w JOIN uses u ON u.id = w.use_id WHERE u.kind = 'return';
CREATE VIEW details AS
    SELECT w.interval_id, w.vcpu, u.reason, u.kind, u.number, u.write, u.name, w.count
    FROM use_rows w JOIN uses u ON u.id = w.use_id WHERE u.kind IN ('port', 'msr', 'other');
CREATE VIEW modes AS
    SELECT w.interval_id, w.vcpu, u.reason, u.name AS mode, w.count
    FROM use_rows w JOIN uses u ON u.id = w.use_id WHERE u.kind = 'mode';
CREATE VIEW by_port AS
    SELECT printf('0x%x', d.number) AS port, CASE d.write WHEN 1 THEN 'out' ELSE 'in' END AS direction, d.name,
        sum(d.count) AS exits
    FROM details d WHERE d.kind = 'port' GROUP BY d.number, d.write ORDER BY exits DESC;
CREATE VIEW by_msr AS
    SELECT printf('0x%x', d.number) AS msr, CASE d.write WHEN 1 THEN 'write' ELSE 'read' END AS direction, d.name,
        sum(d.count) AS exits
    FROM details d WHERE d.kind = 'msr' GROUP BY d.number, d.write ORDER BY exits DESC;
CREATE VIEW by_mode AS
    SELECT r.level, m.mode, sum(m.count) AS exits
    FROM modes m JOIN reasons r ON r.id = m.reason GROUP BY r.level, m.mode ORDER BY exits DESC;
CREATE VIEW phase_of_interval AS
    SELECT i.id AS interval_id, (SELECT p.id FROM phases p WHERE p.first_interval <= i.id
        ORDER BY p.first_interval DESC, p.id DESC LIMIT 1) AS phase
    FROM intervals i;
CREATE VIEW by_phase AS
    SELECT p.name AS phase, min(i.offset_ns) / 1e9 AS second, total(i.length_ns) / 1e9 AS seconds,
        coalesce(sum(s.exits), 0) AS exits, round(coalesce(sum(s.exits), 0) * 1e9 / sum(i.length_ns), 2) AS per_second
    FROM phases p LEFT JOIN phase_of_interval o ON o.phase = p.id LEFT JOIN intervals i ON i.id = o.interval_id
        LEFT JOIN (SELECT interval_id, sum(exits) AS exits FROM spans GROUP BY interval_id) s ON s.interval_id = i.id
    GROUP BY p.id
    ORDER BY p.first_interval, p.id;
CREATE INDEX interval_at ON intervals (offset_ns);
CREATE VIEW console_lines AS
    SELECT c.at_ns / 1e9 AS second, p.name AS phase, r.per_second, c.text
    FROM console c
    LEFT JOIN rate r ON r.interval_id = (SELECT i.id FROM intervals i WHERE i.offset_ns <= c.at_ns
        ORDER BY i.offset_ns DESC LIMIT 1)
    LEFT JOIN phase_of_interval o ON o.interval_id = r.interval_id
    LEFT JOIN phases p ON p.id = o.phase
    ORDER BY c.id;
