-- The tables of the document. A view `table: NAME` is a table as it stands. A view `pivot: NAME` has three columns: the
-- heading of a row, the heading of a column, and the text where they meet.
--
-- The functions median, spread (of all figures), shown (`median (least to most)`) and grouped (`1,234`) are Rust's.

CREATE VIEW "table: runs" AS
    SELECT name AS run, grouped(exits) AS exits, coalesce(grouped(kvm_exits), 'none') AS "KVM's own count",
        grouped(lost) AS lost,
        CASE WHEN id IN (SELECT id FROM exact) THEN 'yes' ELSE '**no**, counts nowhere else' END AS exact,
        grouped(seconds) AS "virtual seconds", grouped(real_seconds) AS "real seconds, whole run",
        grouped(stalls) AS "stalled before"
    FROM runs ORDER BY id;

CREATE VIEW "table: totals" AS
    SELECT boot, grouped(count(*)) AS runs, grouped(median(exits)) AS "exits: median",
        grouped(min(exits)) AS least, grouped(max(exits)) AS most,
        CASE count(*) WHEN 1 THEN '–' ELSE printf('%.1f %%', 100 * spread(exits) / median(exits)) END AS spread,
        grouped(median(seconds)) AS "virtual seconds", grouped(median(exits / seconds)) AS "exits per second"
    FROM exact GROUP BY cell ORDER BY cell;

-- Exits of each reason of the processor in each run, 0 where there was none.
CREATE VIEW run_reasons AS
    SELECT e.id AS run, e.cell, e.boot, e.short, e.isa, known.reason,
        coalesce(r.exits, 0) AS exits, coalesce(r.user_exits, 0) AS user_exits
    FROM exact e
    JOIN (SELECT DISTINCT isa, reason FROM exact JOIN reasons ON run = id) known ON known.isa = e.isa
    LEFT JOIN reasons r ON r.run = e.id AND r.reason = known.reason;
CREATE VIEW cell_reasons AS
    SELECT cell, boot, short, isa, reason, median(exits) AS median, min(exits) AS least, max(exits) AS most,
        shown(exits) AS text
    FROM run_reasons GROUP BY cell, reason;
CREATE VIEW types AS
    SELECT isa, reason AS type, short, text
    FROM cell_reasons JOIN (SELECT isa, reason, sum(median) AS weight FROM cell_reasons GROUP BY isa, reason)
        USING (isa, reason)
    ORDER BY weight DESC, reason, cell;
CREATE VIEW "pivot: types-svm" AS SELECT type, short, text FROM types WHERE isa = 'svm';
CREATE VIEW "pivot: types-vmx" AS SELECT type, short, text FROM types WHERE isa = 'vmx';

CREATE VIEW run_events AS
    SELECT run, coalesce(event, (SELECT max(event) FROM events)) AS event, sum(exits) AS exits, sum(user_exits) AS user_exits
    FROM run_reasons LEFT JOIN events USING (isa, reason)
    GROUP BY 1, 2;
CREATE VIEW "pivot: events" AS
    SELECT what AS "what happens", boot,
        grouped(median(coalesce(r.exits, 0))) || printf(' (%.1f %%)', 100 * median(coalesce(r.exits, 0)) / median(e.exits))
    FROM exact e CROSS JOIN (SELECT DISTINCT event, what FROM events) v
    LEFT JOIN run_events r ON r.run = e.id AND r.event = v.event
    GROUP BY v.event, cell ORDER BY v.event, cell;

CREATE VIEW "table: user" AS
    SELECT boot, shown(user) AS "exits to the VMM", printf('%.1f %%', median(100.0 * user / exits)) AS "of all",
        printf('%.1f %%', median(100.0 * io_user / max(io, 1))) AS "of port I/O",
        shown(exits - user) AS "exits answered in the kernel"
    FROM exact JOIN (
        SELECT run, sum(user_exits) AS user, total(exits) FILTER (WHERE event = 1) AS io,
            total(user_exits) FILTER (WHERE event = 1) AS io_user
        FROM run_events GROUP BY run) ON run = id
    GROUP BY cell ORDER BY cell;

CREATE VIEW "pivot: returns" AS
    SELECT known.returned AS "KVM_EXIT_", boot, shown(coalesce(r.count, 0))
    FROM exact e CROSS JOIN (SELECT DISTINCT returned FROM exact JOIN returns ON run = id) known
    LEFT JOIN returns r ON r.run = e.id AND r.returned = known.returned
    GROUP BY known.returned, cell ORDER BY known.returned, cell;

-- The last interval ends with the VM, and may be too short for a rate.
CREATE VIEW rates AS
    SELECT run, exits / (ends - begins) AS rate FROM intervals i
    WHERE ends - begins >= 0.5 OR begins < (SELECT max(begins) FROM intervals WHERE run = i.run)
        OR 1 = (SELECT count(*) FROM intervals WHERE run = i.run);
CREATE VIEW "table: rates" AS
    SELECT boot, shown(median) AS "median second", shown(least) AS slowest, shown(most) AS fastest,
        printf('%.1f', median(most / max(median, 1.0))) AS "fastest : median"
    FROM exact JOIN (SELECT run, median(rate) AS median, min(rate) AS least, max(rate) AS most FROM rates GROUP BY run)
        ON run = id
    GROUP BY cell ORDER BY cell;

-- Tenths of each run's time, with the part of each interval that lies in them. Exits are taken as even within an interval.
CREATE VIEW tenths AS
    WITH RECURSIVE numbers (tenth) AS (SELECT 1 UNION ALL SELECT tenth + 1 FROM numbers WHERE tenth < 10),
        bounds AS (
            SELECT id AS run, tenth, first + seconds * (tenth - 1) / 10 AS start, first + seconds * tenth / 10 AS end
            FROM exact CROSS JOIN numbers JOIN (SELECT run, min(begins) AS first FROM intervals GROUP BY run) ON run = id)
    SELECT run, tenth, i.begins, (min(i.ends, b.end) - max(i.begins, b.start)) / (i.ends - i.begins) AS part, i.exits
    FROM bounds b JOIN intervals i USING (run) WHERE i.begins < b.end AND i.ends > b.start;
CREATE VIEW "pivot: parts" AS
    SELECT boot, tenth || '/10', grouped(median(part_exits * 10 / seconds))
    FROM exact JOIN (SELECT run, tenth, sum(part * exits) AS part_exits FROM tenths GROUP BY run, tenth) ON run = id
    GROUP BY cell, tenth ORDER BY cell, tenth;
CREATE VIEW tenth_reasons AS
    SELECT cell, tenth, reason, sum(part * r.exits) AS exits
    FROM exact e JOIN tenths t ON t.run = e.id JOIN interval_reasons r ON r.run = t.run AND r.begins = t.begins
    GROUP BY cell, tenth, reason;
-- The reason is the one of the row with the maximum: https://sqlite.org/lang_select.html#bareagg
CREATE VIEW leaders AS
    SELECT cell, tenth, reason, max(exits) AS exits, (SELECT sum(exits) FROM tenth_reasons a
        WHERE a.cell = r.cell AND a.tenth = r.tenth) AS of_all
    FROM tenth_reasons r GROUP BY cell, tenth HAVING exits > 0;
CREATE VIEW "pivot: leaders" AS
    SELECT boot, tenth || '/10', coalesce(reason || printf(' %.0f %%', 100 * l.exits / of_all), '–')
    FROM (SELECT DISTINCT e.cell, boot, tenth FROM exact e JOIN tenths ON run = id) LEFT JOIN leaders l USING (cell, tenth)
    ORDER BY cell, tenth;

CREATE VIEW ranks AS
    SELECT *, row_number() OVER (PARTITION BY cell ORDER BY median DESC, reason) AS rank,
        100 * median / (SELECT median(exits) FROM exact e WHERE e.cell = c.cell) AS percent
    FROM cell_reasons c WHERE most > 0;
CREATE VIEW rarest AS
    SELECT cell, min(median) AS median FROM ranks WHERE least > 0 GROUP BY cell;
CREATE VIEW "table: extremes" AS
    SELECT boot, group_concat(reason || printf(' %.1f %%', percent), '') FILTER (WHERE rank = 1) AS "most frequent",
        group_concat(reason || printf(' %.1f %%', percent), ', ' ORDER BY rank)
            FILTER (WHERE rank BETWEEN 2 AND 4) AS "then",
        group_concat(reason, ', ' ORDER BY reason) FILTER (WHERE least > 0 AND r.median = a.median)
            || ' (' || grouped(a.median) || ')' AS "least frequent of those in every run"
    FROM ranks r LEFT JOIN rarest a USING (cell)
    GROUP BY cell ORDER BY cell;
