-- What exits were about is of any kind, and has host times: each pair of a reason and such a thing once, and for each interval and
-- vCPU two blobs, of returns and modes by count, and of details by count, host time in all, and the longest.
CREATE TABLE breakdowns (
    id INTEGER PRIMARY KEY,
    reason INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key INTEGER,
    attributes INTEGER,
    text TEXT NOT NULL,
    name TEXT NOT NULL
) STRICT;
CREATE TABLE breakdown_counts (
    interval_id INTEGER NOT NULL,
    vcpu INTEGER NOT NULL,
    counts BLOB NOT NULL,
    details BLOB NOT NULL,
    PRIMARY KEY (interval_id, vcpu)
) STRICT, WITHOUT ROWID;

DROP VIEW by_port;
DROP VIEW by_msr;
DROP VIEW by_mode;
DROP VIEW details;
DROP VIEW modes;
DROP VIEW returns;
DROP VIEW use_rows;
DROP TABLE used;
DROP TABLE uses;

CREATE VIEW breakdown_rows AS
    WITH RECURSIVE entries (interval_id, vcpu, bytes, w0, w1, w2, w3, at) AS (
        SELECT interval_id, vcpu, hex(counts), 2 * substr(hex(counts), 2, 1), 2 * substr(hex(counts), 4, 1), 0, 0, 5
        FROM breakdown_counts WHERE length(counts) > 2
        UNION ALL
        SELECT interval_id, vcpu, hex(details), 2 * substr(hex(details), 2, 1), 2 * substr(hex(details), 4, 1),
            2 * substr(hex(details), 6, 1), 2 * substr(hex(details), 8, 1), 9
        FROM breakdown_counts WHERE length(details) > 4
        UNION ALL
        SELECT interval_id, vcpu, bytes, w0, w1, w2, w3, at + w0 + w1 + w2 + w3
        FROM entries WHERE at + w0 + w1 + w2 + w3 < length(bytes) AND w0 > 0
    ), texts (interval_id, vcpu, id_text, count_text, time_text, max_text) AS (
        SELECT interval_id, vcpu,
            substr('0000000000000000' || substr(bytes, at, w0), -16),
            substr('0000000000000000' || substr(bytes, at + w0, w1), -16),
            substr('0000000000000000' || substr(bytes, at + w0 + w1, w2), -16),
            substr('0000000000000000' || substr(bytes, at + w0 + w1 + w2, w3), -16)
        FROM entries
    )
    SELECT interval_id, vcpu,
        (instr('123456789ABCDEF', substr(id_text, 1, 1)) << 60) +
        (instr('123456789ABCDEF', substr(id_text, 2, 1)) << 56) +
        (instr('123456789ABCDEF', substr(id_text, 3, 1)) << 52) +
        (instr('123456789ABCDEF', substr(id_text, 4, 1)) << 48) +
        (instr('123456789ABCDEF', substr(id_text, 5, 1)) << 44) +
        (instr('123456789ABCDEF', substr(id_text, 6, 1)) << 40) +
        (instr('123456789ABCDEF', substr(id_text, 7, 1)) << 36) +
        (instr('123456789ABCDEF', substr(id_text, 8, 1)) << 32) +
        (instr('123456789ABCDEF', substr(id_text, 9, 1)) << 28) +
        (instr('123456789ABCDEF', substr(id_text, 10, 1)) << 24) +
        (instr('123456789ABCDEF', substr(id_text, 11, 1)) << 20) +
        (instr('123456789ABCDEF', substr(id_text, 12, 1)) << 16) +
        (instr('123456789ABCDEF', substr(id_text, 13, 1)) << 12) +
        (instr('123456789ABCDEF', substr(id_text, 14, 1)) << 8) +
        (instr('123456789ABCDEF', substr(id_text, 15, 1)) << 4) +
        instr('123456789ABCDEF', substr(id_text, 16, 1)) AS breakdown,
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
        (instr('123456789ABCDEF', substr(count_text, 15, 1)) << 4) +
        instr('123456789ABCDEF', substr(count_text, 16, 1)) AS count,
        (instr('123456789ABCDEF', substr(time_text, 1, 1)) << 60) +
        (instr('123456789ABCDEF', substr(time_text, 2, 1)) << 56) +
        (instr('123456789ABCDEF', substr(time_text, 3, 1)) << 52) +
        (instr('123456789ABCDEF', substr(time_text, 4, 1)) << 48) +
        (instr('123456789ABCDEF', substr(time_text, 5, 1)) << 44) +
        (instr('123456789ABCDEF', substr(time_text, 6, 1)) << 40) +
        (instr('123456789ABCDEF', substr(time_text, 7, 1)) << 36) +
        (instr('123456789ABCDEF', substr(time_text, 8, 1)) << 32) +
        (instr('123456789ABCDEF', substr(time_text, 9, 1)) << 28) +
        (instr('123456789ABCDEF', substr(time_text, 10, 1)) << 24) +
        (instr('123456789ABCDEF', substr(time_text, 11, 1)) << 20) +
        (instr('123456789ABCDEF', substr(time_text, 12, 1)) << 16) +
        (instr('123456789ABCDEF', substr(time_text, 13, 1)) << 12) +
        (instr('123456789ABCDEF', substr(time_text, 14, 1)) << 8) +
        (instr('123456789ABCDEF', substr(time_text, 15, 1)) << 4) +
        instr('123456789ABCDEF', substr(time_text, 16, 1)) AS time_ns,
        (instr('123456789ABCDEF', substr(max_text, 1, 1)) << 60) +
        (instr('123456789ABCDEF', substr(max_text, 2, 1)) << 56) +
        (instr('123456789ABCDEF', substr(max_text, 3, 1)) << 52) +
        (instr('123456789ABCDEF', substr(max_text, 4, 1)) << 48) +
        (instr('123456789ABCDEF', substr(max_text, 5, 1)) << 44) +
        (instr('123456789ABCDEF', substr(max_text, 6, 1)) << 40) +
        (instr('123456789ABCDEF', substr(max_text, 7, 1)) << 36) +
        (instr('123456789ABCDEF', substr(max_text, 8, 1)) << 32) +
        (instr('123456789ABCDEF', substr(max_text, 9, 1)) << 28) +
        (instr('123456789ABCDEF', substr(max_text, 10, 1)) << 24) +
        (instr('123456789ABCDEF', substr(max_text, 11, 1)) << 20) +
        (instr('123456789ABCDEF', substr(max_text, 12, 1)) << 16) +
        (instr('123456789ABCDEF', substr(max_text, 13, 1)) << 12) +
        (instr('123456789ABCDEF', substr(max_text, 14, 1)) << 8) +
        (instr('123456789ABCDEF', substr(max_text, 15, 1)) << 4) +
        instr('123456789ABCDEF', substr(max_text, 16, 1)) AS max_ns
    FROM texts;
CREATE VIEW returns AS
    SELECT w.interval_id, w.vcpu, b.reason, b.key AS user_reason, w.count
    FROM breakdown_rows w JOIN breakdowns b ON b.id = w.breakdown WHERE b.kind = 'return';
CREATE VIEW modes AS
    SELECT w.interval_id, w.vcpu, b.reason, b.name AS mode, w.count
    FROM breakdown_rows w JOIN breakdowns b ON b.id = w.breakdown WHERE b.kind = 'mode';
CREATE VIEW details AS
    SELECT w.interval_id, w.vcpu, b.reason, b.kind, b.key AS number, b.attributes & 1 AS write, b.attributes, b.text, b.name,
        w.count, w.time_ns, w.max_ns
    FROM breakdown_rows w JOIN breakdowns b ON b.id = w.breakdown WHERE b.kind NOT IN ('return', 'mode');
CREATE VIEW by_detail AS
    SELECT d.kind, d.text AS detail, d.name, sum(d.count) AS exits, sum(d.time_ns) AS time_ns, max(d.max_ns) AS max_ns
    FROM details d GROUP BY d.kind, d.number, d.attributes ORDER BY exits DESC;
CREATE VIEW by_port AS
    SELECT printf('0x%x', d.number) AS port, CASE d.write WHEN 1 THEN 'out' ELSE 'in' END AS direction, d.name,
        sum(d.count) AS exits, sum(d.time_ns) AS time_ns, max(d.max_ns) AS max_ns
    FROM details d WHERE d.kind = 'port' GROUP BY d.number, d.write ORDER BY exits DESC;
CREATE VIEW by_msr AS
    SELECT printf('0x%x', d.number) AS msr, CASE d.write WHEN 1 THEN 'write' ELSE 'read' END AS direction, d.name,
        sum(d.count) AS exits, sum(d.time_ns) AS time_ns, max(d.max_ns) AS max_ns
    FROM details d WHERE d.kind = 'msr' GROUP BY d.number, d.write ORDER BY exits DESC;
CREATE VIEW by_mode AS
    SELECT r.level, m.mode, sum(m.count) AS exits
    FROM modes m JOIN reasons r ON r.id = m.reason GROUP BY r.level, m.mode ORDER BY exits DESC;
