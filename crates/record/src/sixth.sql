-- What VMs exited for in each minute is in a plain table, for who reads with SQL alone.
CREATE TABLE minute_reasons (
    minute INTEGER NOT NULL,
    vm INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    count INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    max_ns INTEGER,
    PRIMARY KEY (minute, vm, reason)
) STRICT, WITHOUT ROWID;

CREATE VIEW minute_rows AS
    SELECT coalesce(n.offset_ns, i.offset_ns) / 60000000000 AS minute,
        strftime('%Y-%m-%d %H:%M:%f', coalesce(n.start_ns, i.start_ns) / 1e9, 'unixepoch') AS start,
        coalesce(n.length_ns, i.length_ns) / 1e9 AS seconds, m.name AS vm, m.pid, m.id AS vm_id, r.level, r.isa, r.code,
        r.name AS reason, e.count, e.time_ns, e.max_ns
    FROM minute_reasons e
    LEFT JOIN minutes n ON n.id = e.minute
    LEFT JOIN intervals i ON i.id = e.minute
    JOIN vms m ON m.id = e.vm
    JOIN reasons r ON r.id = e.reason;
