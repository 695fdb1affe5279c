//! The parts of the documentation that are made from the registry of figures.

use super::csv::INTERVAL_COLUMNS;
use exitscope_model::figure::{FIGURES, Figure, Kind, Needs, TIMES};
use exitscope_model::{BUCKETS, Isa, Key, Level, Loss, Measured, WorkerTimes, docs};

/// A table of two or more columns.
fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

fn machine() -> impl Iterator<Item = &'static Figure> {
    FIGURES.iter().copied().filter(|figure| figure.machine)
}

/// `a`, `b` and `c`, of figures.
fn keys(figures: impl Iterator<Item = &'static Figure>) -> String {
    let keys: Vec<String> = figures.map(|figure| format!("`{}`", figure.key)).collect();
    match keys.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// An item of a list, in lines of at most 100 columns.
fn item(text: &str) -> String {
    format!("- {}", super::text::wrap(text, 98).join("\n"))
}

/// Help as a sentence, and what follows it.
fn meaning(help: &str, note: &str) -> String {
    if note.is_empty() { help.into() } else { format!("{help}. {note}").trim_end_matches('.').into() }
}

#[test]
fn columns_are_documented() {
    let row = |key: &str, unit: &str, help: &str| vec![format!("`{key}`"), unit.into(), help.into()];
    let heads = ["column", "unit", "meaning"];
    let shown = FIGURES.iter().filter(|figure| figure.rank.is_some());
    let shown = table(&heads, shown.map(|figure| row(figure.heading, figure.unit, figure.help)));
    let interval = INTERVAL_COLUMNS.iter().map(|(key, help)| row(key, "", help));
    let csv =
        table(&heads, interval.chain(machine().map(|figure| row(figure.key, figure.unit, figure.help))));
    docs::check_parts("output.md", &[("table", shown), ("csv", csv)]);
}

/// The type of a figure in JSON, in words.
fn words(figure: &Figure) -> String {
    let word = match figure.kind {
        Kind::Text | Kind::Isa | Kind::Subject => "string",
        Kind::Id | Kind::Code | Kind::Level | Kind::Count | Kind::Ns => "integer",
        Kind::Share | Kind::Rate => "number",
        Kind::Buckets => "array of integers",
        Kind::Returns => "object",
        Kind::Details => "array",
    };
    format!("{word}{}", if figure.is_nullable() { " or null" } else { "" })
}

#[test]
fn keys_are_documented() {
    let heads = ["key", "type", "unit", "meaning"];
    let rows = table(
        &heads,
        machine().map(|figure| {
            let meaning = meaning(figure.help, figure.note);
            vec![format!("`{}`", figure.key), words(figure), figure.unit.into(), meaning]
        }),
    );
    let by = |key: Key| {
        let keys = keys(machine().filter(|figure| figure.needs == Needs::Key(key)));
        item(&format!("`--by {}` adds {keys} to a row.", key.word()))
    };
    let unless = |needs: Needs, what: &str| {
        let keys = keys(machine().filter(|figure| figure.needs == needs));
        item(&format!("{what}: {keys}."))
    };
    let absent = [
        unless(Needs::Breakdown, "Null unless `measured` is `split`"),
        unless(Needs::Latency, "Null where `measured` is `counts`"),
        unless(Needs::Nested, "Null in rows of level 1, and where the source cannot tell levels apart"),
        unless(Needs::NestedLatency, "Null in both cases"),
    ];
    let absent: Vec<String> = Key::ALL.map(by).into_iter().chain(absent).collect();
    let vcpus = table(
        &["key", "type", "unit", "meaning"],
        TIMES.iter().filter(|time| time.machine).map(|time| {
            let meaning = meaning(time.help, time.note);
            let needs =
                if time.needs == Measured::Latency { "" } else { "; null unless `measured` is `split`" };
            vec![
                format!("`{}`", time.key),
                "integer or null".into(),
                "ns".into(),
                format!("{meaning}{needs}"),
            ]
        }),
    );
    let loss = Loss::FIGURES.iter().map(|figure| vec![format!("`{}`", figure.key), figure.meaning.into()]);
    let loss = table(&["key", "meaning"], loss);
    let workers = table(
        &["key", "unit", "meaning"],
        WorkerTimes::FIGURES
            .iter()
            .map(|figure| vec![format!("`{}`", figure.key), "ns".into(), figure.help.into()]),
    );
    let parts =
        [("rows", rows), ("keys", absent.join("\n")), ("vcpus", vcpus), ("workers", workers), ("loss", loss)];
    docs::check_parts("json.md", &parts);
}

#[test]
fn metrics_are_documented() {
    let text = super::metrics::tests::whole();
    let of = |word: &str| -> Vec<(String, String)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(word)?.split_once(' '));
        lines.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
    };
    let rows = of("# HELP ").into_iter().zip(of("# TYPE ")).map(|((name, help), (_, kind))| {
        // Labels of the first series; `le` is every histogram's.
        let suffix = if kind == "histogram" { "_count" } else { "" };
        let first = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{suffix}{{")));
        let labels = first.and_then(|rest| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        let names = labels.split("\",").filter_map(|label| Some(format!("`{}`", label.split_once('=')?.0)));
        vec![format!("`{name}`"), kind, names.collect::<Vec<_>>().join(", "), help]
    });
    let metrics = table(&["metric", "type", "labels", "meaning"], rows);
    docs::check_parts("fleet.md", &[("metrics", metrics)]);
}

/// Schema of a figure's values.
fn schema_of(figure: &Figure) -> String {
    let of = |name: &str, more: &str| {
        let null =
            if figure.is_nullable() { format!("[\"{name}\", \"null\"]") } else { format!("\"{name}\"") };
        format!("{{ \"type\": {null}{more} }}")
    };
    let number = |name: &str| of(name, ", \"minimum\": 0");
    match figure.kind {
        Kind::Text | Kind::Subject => of("string", ""),
        Kind::Isa => format!("{{ \"enum\": {:?} }}", Isa::ALL.map(Isa::name)),
        Kind::Level => format!("{{ \"enum\": [{}, {}, null] }}", Level::L1.number(), Level::L2.number()),
        Kind::Code => of("integer", ""),
        Kind::Id | Kind::Count | Kind::Ns => number("integer"),
        Kind::Share | Kind::Rate => number("number"),
        Kind::Buckets => {
            let items = "\"items\": { \"type\": \"integer\", \"minimum\": 0 }";
            of("array", &format!(", \"minItems\": {BUCKETS}, \"maxItems\": {BUCKETS}, {items}"))
        }
        Kind::Returns => {
            of("object", ", \"additionalProperties\": { \"type\": \"integer\", \"minimum\": 1 }")
        }
        Kind::Details => of("array", &format!(", \"items\": {DETAIL}")),
    }
}

/// Schema of one detail.
const DETAIL: &str = r#"{
              "type": "object",
              "required": ["kind", "key", "write", "name", "count", "time_ns", "max_ns"],
              "properties": {
                "kind": { "type": "string" },
                "key": { "type": "integer", "minimum": 0 },
                "port": { "type": "integer", "minimum": 0 },
                "msr": { "type": "integer", "minimum": 0 },
                "write": { "type": "boolean" },
                "size": { "type": "integer", "minimum": 1 },
                "flags": { "type": "array", "items": { "type": "string" } },
                "name": { "type": ["string", "null"] },
                "count": { "type": "integer", "minimum": 1 },
                "time_ns": { "type": ["integer", "null"], "minimum": 0 },
                "max_ns": { "type": ["integer", "null"], "minimum": 0 }
              }
            }"#;

/// Lines `"key": schema` of an object's properties, as deep as this.
fn properties(depth: usize, pairs: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let line = |(key, schema)| format!("{}\"{key}\": {schema}", " ".repeat(depth));
    pairs.into_iter().map(line).collect::<Vec<_>>().join(",\n")
}

fn list(keys: impl IntoIterator<Item = &'static str>) -> String {
    keys.into_iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_schema_has_every_figure() {
    let always = machine().filter(|figure| !matches!(figure.needs, Needs::Key(_)));
    let times = || TIMES.iter().filter(|time| time.machine);
    let natural = |null: bool| {
        let types = if null { "[\"integer\", \"null\"]" } else { "\"integer\"" };
        format!("{{ \"type\": {types}, \"minimum\": 0 }}")
    };
    let mut schema = include_str!("stat.schema.template.json").to_owned();
    for (place, made) in [
        ("ROW_KEYS", list(always.map(|figure| figure.key))),
        ("ROWS", properties(10, machine().map(|figure| (figure.key, schema_of(figure))))),
        ("LOSS_KEYS", list(Loss::FIGURES.iter().map(|figure| figure.key))),
        ("LOSS", properties(8, Loss::FIGURES.iter().map(|figure| (figure.key, natural(false))))),
        ("TIME_KEYS", list(times().map(|time| time.key))),
        ("WORKER_KEYS", list(WorkerTimes::FIGURES.iter().map(|figure| figure.key))),
        ("WORKERS", properties(10, WorkerTimes::FIGURES.iter().map(|figure| (figure.key, natural(false))))),
        ("TIMES", properties(10, times().map(|time| (time.key, natural(true))))),
    ] {
        let place = format!("<{place}>");
        assert!(schema.contains(&place), "{place}");
        schema = schema.replace(&place, &made);
    }
    docs::check("stat.schema.json", &schema);
}
