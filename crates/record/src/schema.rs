//! Layout of a recording, by version. `docs/recording.md` describes it for those who query it.

use rusqlite::{Connection, Transaction};

/// `application_id` of a recording: `exsc` in ASCII. It tells recordings from other databases, to `file` too.
pub const APPLICATION_ID: i32 = 0x6578_7363;

/// Migrations from each version to the next; `user_version` says how many have been done. One that was
/// released is never changed, and one between releases may be. What a migration takes away, a reader still
/// reads from earlier versions; a view takes the place of a table that others may query.
const MIGRATIONS: [&str; 6] = [
    FIRST,
    include_str!("second.sql"),
    include_str!("third.sql"),
    include_str!("fourth.sql"),
    include_str!("fifth.sql"),
    include_str!("sixth.sql"),
];

/// The newest version.
pub const VERSION: usize = MIGRATIONS.len();

/// Rows are by small keys and without a rowid, because they are what a recording is full of: the key is in a row once, and
/// the rows of an interval lie together.
const FIRST: &str = "
CREATE TABLE facts (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE kvm_parameters (
    module TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (module, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE intervals (
    id INTEGER PRIMARY KEY,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    offset_ns INTEGER NOT NULL,
    length_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE vms (
    id INTEGER PRIMARY KEY,
    pid INTEGER NOT NULL,
    name TEXT NOT NULL,
    vmm TEXT NOT NULL,
    command TEXT NOT NULL,
    first_interval INTEGER NOT NULL,
    last_interval INTEGER,
    ended INTEGER NOT NULL
) STRICT;
CREATE TABLE vcpus (
    id INTEGER PRIMARY KEY,
    vm INTEGER NOT NULL,
    number INTEGER NOT NULL,
    first_interval INTEGER NOT NULL,
    last_interval INTEGER
) STRICT;
CREATE TABLE reasons (
    id INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    isa TEXT NOT NULL,
    code INTEGER NOT NULL,
    name TEXT NOT NULL
) STRICT;
CREATE TABLE user_reasons (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
CREATE TABLE spans (
    interval_id INTEGER NOT NULL,
    vcpu INTEGER NOT NULL,
    exits INTEGER NOT NULL,
    kvm_exits INTEGER,
    guest_ns INTEGER,
    kernel_ns INTEGER,
    user_ns INTEGER,
    waiting_ns INTEGER,
    halted_ns INTEGER,
    polled_ns INTEGER,
    PRIMARY KEY (interval_id, vcpu)
) STRICT, WITHOUT ROWID;
CREATE TABLE exits (
    interval_id INTEGER NOT NULL,
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
    histogram BLOB NOT NULL,
    PRIMARY KEY (interval_id, vcpu, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE nested (
    interval_id INTEGER NOT NULL,
    vcpu INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    to_l1 INTEGER NOT NULL,
    l1_done INTEGER NOT NULL,
    l1_exits INTEGER NOT NULL,
    l1_ns INTEGER NOT NULL,
    PRIMARY KEY (interval_id, vcpu, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE returns (
    interval_id INTEGER NOT NULL,
    vcpu INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    user_reason INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (interval_id, vcpu, reason, user_reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE losses (
    interval_id INTEGER NOT NULL,
    figure TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (interval_id, figure)
) STRICT, WITHOUT ROWID;

CREATE VIEW exit_rows AS
    SELECT i.id AS interval_id, i.offset_ns / 1e9 AS second, i.length_ns / 1e9 AS seconds,
        m.name AS vm, m.pid, m.id AS vm_id, v.number AS vcpu, r.level, r.isa, r.code, r.name AS reason,
        e.count, e.time_ns, e.time_ns - e.user_ns - e.waiting_ns - e.halted_ns AS kernel_ns, e.user_ns, e.waiting_ns,
        e.halted_ns, e.polled_ns, e.min_ns, e.max_ns, e.user_exits
    FROM exits e
    JOIN intervals i ON i.id = e.interval_id
    JOIN vcpus v ON v.id = e.vcpu
    JOIN vms m ON m.id = v.vm
    JOIN reasons r ON r.id = e.reason;
CREATE VIEW by_reason AS
    SELECT r.level, r.name AS reason, sum(e.count) AS exits,
        round(100.0 * sum(e.count) / (SELECT sum(exits) FROM spans), 2) AS percent,
        round(sum(e.count) * 1e9 / (SELECT sum(length_ns) FROM intervals), 2) AS per_second,
        sum(e.time_ns) AS time_ns, min(e.min_ns) AS min_ns, max(e.max_ns) AS max_ns, sum(e.user_exits) AS user_exits
    FROM exits e JOIN reasons r ON r.id = e.reason
    GROUP BY r.id
    ORDER BY exits DESC;
CREATE VIEW by_vcpu AS
    SELECT m.name AS vm, m.pid, m.id AS vm_id, v.number AS vcpu, sum(s.exits) AS exits, sum(s.kvm_exits) AS kvm_exits,
        round(sum(s.exits) * 1e9 / (SELECT sum(length_ns) FROM intervals), 2) AS per_second,
        sum(s.guest_ns) AS guest_ns, sum(s.kernel_ns) AS kernel_ns, sum(s.user_ns) AS user_ns,
        sum(s.waiting_ns) AS waiting_ns, sum(s.halted_ns) AS halted_ns, sum(s.polled_ns) AS polled_ns
    FROM vcpus v JOIN vms m ON m.id = v.vm LEFT JOIN spans s ON s.vcpu = v.id
    GROUP BY v.id
    ORDER BY exits DESC;
CREATE VIEW rate AS
    SELECT i.id AS interval_id, strftime('%Y-%m-%d %H:%M:%f', i.start_ns / 1e9, 'unixepoch') AS start,
        i.offset_ns / 1e9 AS second, i.length_ns / 1e9 AS seconds, coalesce(sum(s.exits), 0) AS exits,
        round(coalesce(sum(s.exits), 0) * 1e9 / i.length_ns, 2) AS per_second
    FROM intervals i LEFT JOIN spans s ON s.interval_id = i.id
    GROUP BY i.id
    ORDER BY i.id;
CREATE VIEW rate_by_reason AS
    SELECT i.id AS interval_id, i.offset_ns / 1e9 AS second, r.level, r.name AS reason, sum(e.count) AS exits,
        round(sum(e.count) * 1e9 / i.length_ns, 2) AS per_second, sum(e.time_ns) AS time_ns
    FROM exits e JOIN intervals i ON i.id = e.interval_id JOIN reasons r ON r.id = e.reason
    GROUP BY i.id, r.id
    ORDER BY i.id, exits DESC;
CREATE VIEW by_second AS
    SELECT i.offset_ns / 1000000000 AS second, sum(s.exits) AS exits
    FROM intervals i LEFT JOIN spans s ON s.interval_id = i.id
    GROUP BY 1
    ORDER BY 1;
CREATE VIEW by_return AS
    SELECT r.level, r.name AS reason, u.name AS returned, sum(t.count) AS count
    FROM returns t JOIN reasons r ON r.id = t.reason JOIN user_reasons u ON u.id = t.user_reason
    GROUP BY r.id, u.id
    ORDER BY count DESC;
";

/// Brings a database to the newest version, from whatever version it is of.
pub fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let done = version(transaction)?;
    let done = usize::try_from(done).unwrap_or(0);
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(VERSION).unwrap_or(i64::MAX))
}

/// Makes tables and views of the newest version in a database in memory.
pub fn make_in_memory(connection: &Connection) -> rusqlite::Result<()> {
    MIGRATIONS.iter().try_for_each(|migration| connection.execute_batch(migration))
}

/// A database of an older version, as that made it.
#[cfg(test)]
pub fn make(connection: &Connection, version: usize) -> rusqlite::Result<()> {
    for migration in MIGRATIONS.iter().take(version) {
        connection.execute_batch(migration)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", i64::try_from(version).unwrap_or(i64::MAX))
}

/// The version of a database; 0 for one that has no schema of ours yet.
pub fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The tables of a version, each with the statement that makes it. What reads a file relies on them being those.
pub fn tables(version: usize) -> rusqlite::Result<Vec<(String, String)>> {
    let model = Connection::open_in_memory()?;
    for migration in MIGRATIONS.iter().take(version) {
        model.execute_batch(migration)?;
    }
    let mut statement =
        model.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
