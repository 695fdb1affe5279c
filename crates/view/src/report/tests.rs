//! The page and the picture of lives that are made up, read by a parser.

use super::*;
use crate::unit;
use exitscope_analysis::advice::Host;
use exitscope_analysis::boot_report::{Mark, Origin};
use exitscope_analysis::console::Line;
use exitscope_analysis::series::Series;
use exitscope_model::fixture;
use exitscope_model::{
    By, Counters, ExitCode, Interval, Isa, Level, Measured, Row, Source, VcpuSpan, VmId, float, group,
};
use proptest::prelude::*;
use roxmltree::{Document, Node, ParsingOptions};
use std::sync::LazyLock;
use std::time::Duration;

fn facts() -> About {
    About {
        tool: "0.1.0".into(),
        host: "outer".into(),
        kernel: "6.1.0-50-amd64 #1 SMP".into(),
        cpu: "QEMU TCG CPU version 2.5+".into(),
        cpus: 2,
        kvm: [(("kvm_amd".into(), "npt".into()), "Y".into())].into(),
        facts: [("clocksource".into(), "tsc".into())].into(),
        command: vec!["qemu-system-x86_64".into(), "-nographic".into()],
        interval: Duration::from_millis(100),
        source: Source::Btf,
        measured: Measured::Breakdown,
    }
}

/// An interval of a tenth of a second, of exits by code.
fn tenth(counts: &[(i64, u64)]) -> Interval {
    let vm = VmId(0);
    let row = |&(code, count): &(i64, u64)| Row {
        vm,
        vcpu: 0,
        level: Level::L1,
        code: ExitCode { isa: Isa::Svm, code },
        counters: Counters { count, ..Counters::default() },
    };
    let exits = counts.iter().map(|(_, count)| count).sum();
    let vcpu = VcpuSpan { vm, vcpu: 0, exits, kvm_exits: None, time: None };
    let (length, rows) = (Duration::from_millis(100), counts.iter().map(row).collect());
    Interval { length, rows, vcpus: vec![vcpu], ..fixture::single() }
}

/// Six seconds in three phases, with a burst in the middle and a console; `whole` is what the tables are of.
fn boot_report(whole: Interval) -> BootReport {
    let mut series = Series::new("start");
    for n in 0..60u64 {
        match n {
            4 => series.begin("firmware"),
            12 => series.begin("kernel"),
            45 => series.begin("user space"),
            _ => {}
        }
        let io = if n == 30 { 5000 } else { 100 + n * 7 % 13 };
        let others = (0..9u8).map(|code| (0x60 + i64::from(code), 20 - u64::from(code)));
        series.add(&tenth(&others.chain([(0x7b, io), (0x72, 40)]).collect::<Vec<_>>()));
    }
    let mut boot = BootReport::new(whole, series, "a signal".into());
    boot.advise(&Host::default());
    let said = |n: u64| Line {
        at: Duration::from_millis(60 * n),
        text: format!("[    {n}.0] line {n} of the kernel"),
    };
    boot.console = (0..100).map(said).collect();
    let mark = |ms, origin, text: &str| Mark { at: Duration::from_millis(ms), origin, text: text.into() };
    boot.marks = vec![
        mark(2500, Origin::Hand, "drivers"),
        mark(4000, Origin::Port { port: 0xf4, value: 3 }, "test 3"),
    ];
    boot
}

fn page(boot: &BootReport) -> String {
    html(&Story { boot, facts: &facts(), explanation: &Explanation::default() })
}

fn picture(boot: &BootReport) -> String {
    svg(&Story { boot, facts: &facts(), explanation: &Explanation::default() }, Theme::Light)
}

fn parse(markup: &str) -> Document<'_> {
    Document::parse_with_options(markup, ParsingOptions { allow_dtd: true, ..ParsingOptions::default() })
        .unwrap()
}

/// The whole text under a node.
fn text(node: Node) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

fn find<'a>(document: &'a Document, id: &str) -> Option<Node<'a, 'a>> {
    document.descendants().find(|node| node.attribute("id") == Some(id))
}

/// The cells of a section's first table, the heading's among them.
fn table(document: &Document, id: &str) -> Vec<Vec<String>> {
    let section = find(document, id).unwrap_or_else(|| panic!("no section {id}"));
    let table = section.descendants().find(|node| node.tag_name().name() == "table").unwrap();
    let rows = table.descendants().filter(|node| node.tag_name().name() == "tr");
    rows.map(|row| row.children().filter(Node::is_element).map(text).collect()).collect()
}

/// The number of a cell.
fn number(cell: &str) -> u64 {
    cell.replace(',', "").parse().unwrap_or_else(|_| panic!("{cell:?} is no count"))
}

#[test]
fn tables_have_the_figures_of_the_model() {
    for whole in fixture::all() {
        let boot = boot_report(whole.clone());
        let page = page(&boot);
        assert!(!page.contains("NaN") && !page.contains("inf<"), "a figure is none");
        let document = parse(&page);
        let all = boot.series.whole().exits;

        let phases = table(&document, "phases");
        let told: Vec<(String, u64)> =
            phases[1..].iter().map(|row| (row[0].clone(), number(&row[3]))).collect();
        let mut expected: Vec<(String, u64)> = boot
            .series
            .stretches()
            .iter()
            .map(|stretch| (stretch.name.clone(), stretch.whole.exits))
            .collect();
        expected.push(("total".into(), all));
        assert_eq!(told, expected);

        let spikes = table(&document, "spikes");
        let told: Vec<u64> = spikes[1..].iter().map(|row| number(&row[4])).collect();
        assert_eq!(told, boot.spikes.iter().map(|spike| spike.exits).collect::<Vec<_>>());
        assert!(!told.is_empty() && spikes[1][8].contains("of the kernel"), "{spikes:?}");

        let figures = table(&document, "figures");
        assert_eq!(figures[1..].iter().map(|row| number(&row[2])).sum::<u64>(), all);
        assert_eq!(figures.len() - 1, boot.series.slices().len());

        let mut groups = group(&whole, By { level: whole.has_l2(), reason: true, ..By::NOTHING });
        groups.retain(|group| group.counters.count > 0);
        if !groups.is_empty() {
            let reasons = table(&document, "reasons");
            let at = |heading: &str| reasons[0].iter().position(|cell| cell == heading).unwrap();
            let mut told: Vec<u64> =
                reasons[1..=groups.len()].iter().map(|row| number(&row[at("count")])).collect();
            let mut counts: Vec<u64> = groups.iter().map(|group| group.counters.count).collect();
            counts.sort_unstable();
            told.reverse();
            assert_eq!(told, counts);
            let cards = find(&document, "each").unwrap();
            let cards =
                cards.descendants().filter(|node| node.attribute("id").is_some_and(|id| id.starts_with('r')));
            assert_eq!(cards.count(), groups.len());
            // What is drawn of times is in figures, too.
            let histograms =
                document.descendants().filter(|node| node.attribute("class") == Some("histogram"));
            let timed = groups.iter().filter(|group| group.counters.histogram.count() > 0).count();
            assert_eq!(histograms.count(), timed);
        }

        let vcpus = table(&document, "vcpus");
        let at = vcpus[0].iter().position(|cell| cell == "exits").unwrap();
        let total: u64 = if whole.vcpus.len() == 1 {
            number(&vcpus[1][at])
        } else {
            assert_eq!(vcpus.last().unwrap()[at], unit::count(whole.exits()));
            vcpus[1..vcpus.len() - 1].iter().map(|row| number(&row[at])).sum()
        };
        assert_eq!(total, whole.exits());
        if whole.vms.len() > 1 {
            let vms = table(&document, "vms");
            assert_eq!(vms[1..].iter().map(|row| number(&row[4])).sum::<u64>(), whole.exits());
        }
    }
}

/// The area inside a path of horizontal and vertical lines.
fn area(path: &str) -> f64 {
    let (mut x, mut y, mut area) = (0.0, 0.0, 0.0);
    let mut rest = path;
    while let Some(command) = rest.chars().next() {
        let end = rest[1..].find(|c: char| c.is_ascii_uppercase()).map_or(rest.len(), |end| end + 1);
        let numbers: Vec<f64> =
            rest[1..end].split_whitespace().map(|number| number.parse().unwrap()).collect();
        match (command, numbers.as_slice()) {
            ('M', [to_x, to_y]) => (x, y) = (*to_x, *to_y),
            ('V', [to]) => y = *to,
            ('H', [to]) => {
                area += (x - to) * y;
                x = *to;
            }
            ('Z', []) => {}
            other => panic!("{other:?} in {path}"),
        }
        rest = &rest[end..];
    }
    area
}

#[test]
fn areas_are_as_large_as_exits_are_many() {
    let boot = boot_report(fixture::busy());
    let picture = picture(&boot);
    let document = parse(&picture);
    let paths = document.descendants().filter(|node| node.tag_name().name() == "path");
    let areas: Vec<f64> = paths
        .filter(|path| path.attribute("class").is_some_and(|class| class.starts_with('k')))
        .map(|path| area(path.attribute("d").unwrap()))
        .collect();
    let chart = chart::Chart::new(&boot.series, boot.whole.source, 1000);
    let exits: Vec<f64> = chart.kinds.iter().map(|kind| float(kind.exits)).collect();
    assert_eq!(areas.len(), exits.len());
    let (drawn, all): (f64, f64) = (areas.iter().sum(), exits.iter().sum());
    for (area, exits) in areas.iter().zip(exits) {
        // Places are rounded to a tenth of a pixel, of which the rarest have eight.
        assert!((area / drawn - exits / all).abs() < 0.005, "{area} of {drawn}, {exits} of {all}");
    }
}

/// All that somebody else may have written, written as `text`.
fn told_by(text: &str) -> (BootReport, About, Explanation) {
    let mut boot = boot_report(fixture::busy());
    for vm in boot.whole.vms.values_mut() {
        (vm.name, vm.vmm, vm.command) = (text.into(), text.into(), text.into());
    }
    let mut series = Series::new(text);
    for n in 0..50 {
        series.add(&tenth(&[(0x7b, if n == 25 { 9000 } else { 100 })]));
        if n % 10 == 9 {
            series.begin(text);
        }
    }
    boot = BootReport {
        console: boot.console,
        marks: boot.marks,
        ..BootReport::new(boot.whole, series, "a signal".into())
    };
    boot.advise(&Host::default());
    boot.console.iter_mut().for_each(|line| line.text = text.into());
    boot.marks.iter_mut().for_each(|mark| mark.text = text.into());
    let facts = About {
        tool: text.into(),
        host: text.into(),
        kernel: text.into(),
        cpu: text.into(),
        kvm: [((text.into(), text.into()), text.into())].into(),
        facts: [(text.into(), text.into())].into(),
        command: vec![text.into(); 3],
        ..facts()
    };
    let explanation = Explanation { kvm_missing: Some(text.into()), ..Explanation::default() };
    boot.whole.vcpus[0].kvm_exits = None;
    (boot, facts, explanation)
}

/// An element's name, and those of its attributes.
type Element = (String, Vec<String>);

/// Elements and attributes of a page or a picture, but for those that only mark up text.
fn shape(markup: &str) -> Vec<Element> {
    let document = parse(markup);
    for node in document.descendants().filter(Node::is_element) {
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{attribute:?}");
            assert!(attribute.name() != "href" || attribute.value().starts_with("#r"), "{attribute:?}");
        }
        if node.tag_name().name() == "script" {
            assert_eq!(text(node), page::SCRIPT);
        }
    }
    let is_markup =
        |node: &Node| !["code", "span", "text", "dt", "dd", "line"].contains(&node.tag_name().name());
    let elements = document.descendants().filter(|node| node.is_element() && is_markup(node));
    elements
        .map(|node| {
            let attributes = node.attributes().map(|attribute| attribute.name().to_owned()).collect();
            (node.tag_name().name().to_owned(), attributes)
        })
        .collect()
}

fn both(text: &str) -> [String; 2] {
    let (boot, facts, explanation) = told_by(text);
    let story = Story { boot: &boot, facts: &facts, explanation: &explanation };
    [html(&story), svg(&story, Theme::Dark)]
}

/// A hostile text changes nothing but text: the page has the same elements with the same attributes as with
/// a harmless one.
fn check_hostile(text: &str) {
    static HARMLESS: LazyLock<[Vec<Element>; 2]> =
        LazyLock::new(|| both("a line").map(|markup| shape(&markup)));
    for (hostile, harmless) in both(text).iter().zip(&*HARMLESS) {
        assert_eq!(&shape(hostile), harmless, "{text:?}");
        assert!(!hostile.contains(|c: char| c != '\n' && crate::text::is_unsafe(c)), "{text:?}");
    }
}

#[test]
fn hostile_text_stays_text() {
    let long = "x".repeat(1 << 20);
    for text in [
        "</title><script>alert(1)</script>",
        "</script><img src=x onerror=alert(1)>",
        "</svg></style><iframe>",
        "\" onload=\"alert(1)\" x='y'",
        "]]><!-- <!DOCTYPE x [<!ENTITY y 'z'>]>&y;&#x0;",
        "\x1b[2J\x1b]0;pwned\x07\u{202e}gpj\u{0}\u{fffe}\u{2028}",
        "`</code><b>`",
        &String::from_utf8_lossy(b"\xff\xfe\x80"),
        &long,
    ] {
        check_hostile(text);
    }
    let [page, picture] = both(&long);
    assert!(page.len() < 600_000 && picture.len() < 40_000, "{} and {} bytes", page.len(), picture.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn any_text_stays_text(text in prop_oneof![".{1,40}", "[<>&\"'/`=!a\u{0}\u{1b}\u{202e}\\]-]{1,40}"]) {
        // Without anything to see, a name is another one.
        prop_assume!(!text.trim().is_empty());
        check_hostile(&text);
    }
}

#[test]
fn a_gap_is_a_gap() {
    let mut series = Series::new("start");
    series.skip(Duration::from_secs(100));
    for n in 0..20 {
        series.add(&tenth(&[(0x7b, 100)]));
        if n == 9 {
            series.skip(Duration::from_secs(1));
        }
    }
    let picture = picture(&BootReport::new(fixture::busy(), series, "a signal".into()));
    let document = parse(&picture);
    let path = document.descendants().find(|node| node.attribute("class") == Some("k0")).unwrap();
    // From the left end to the right one, with two areas, a third of the width apart.
    let path = path.attribute("d").unwrap();
    let (first, second) = path[1..].split_once("ZM").unwrap();
    assert!(first.starts_with("64 ") && second.contains("H1186"), "{path}");
    assert!(second.starts_with("812 ") && first.contains("H438"), "{path}");
}

#[test]
fn nothing_and_too_much_have_a_page() {
    let empty = BootReport::new(fixture::idle(), Series::new("start"), "a signal".into());
    assert!(text(parse(&page(&empty)).root_element()).contains("There was no exit"));
    assert!(text(parse(&picture(&empty)).root_element()).contains("no exit"));

    let mut boot = boot_report(fixture::many());
    for n in 0..20_000u64 {
        boot.series.add(&tenth(&[(0x7b, if n % 45 == 44 { 5000 } else { 100 + n % 50 })]));
    }
    boot.series.add(&tenth(&[(0x7b, 77_777)]));
    let said =
        |n: u64| Line { at: Duration::from_millis(20 * n), text: format!("a line like all of them: {n}") };
    boot.console = (0..100_000).map(said).collect();
    let mark = |n: u64| Mark {
        at: Duration::from_millis(100 * n),
        origin: Origin::Port { port: 0xf4, value: 1 },
        text: format!("a mark like all of them: {n}"),
    };
    boot.marks = (0..20_000).map(mark).collect();
    let boot = BootReport { spikes: exitscope_analysis::spike::find(&boot.series), ..boot };
    assert!(boot.spikes.len() > 400, "{}", boot.spikes.len());
    let page = page(&boot);
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
    let document = parse(&page);
    let figures = table(&document, "figures");
    let highest: Vec<&str> = figures[1..].iter().map(|row| row[4].as_str()).collect();
    assert!(highest.contains(&"777,770"), "the highest slice of all is not there");
    assert_eq!(figures[1..].iter().map(|row| number(&row[2])).sum::<u64>(), boot.series.whole().exits);
}

#[test]
fn a_page_and_a_picture() {
    let boot = boot_report(fixture::busy());
    let page = page(&boot);
    let document = parse(&page);
    let body = document.descendants().find(|node| node.tag_name().name() == "main").unwrap();
    let mut said = String::new();
    for section in body.descendants().filter(|node| ["header", "section"].contains(&node.tag_name().name())) {
        let id = section.attribute("id").unwrap_or("header");
        // Of what is long a part.
        let text: String = lines(section).chars().take(1500).collect();
        said += &format!("== {id}\n{text}\n");
    }
    insta::assert_snapshot!("page", said);
    insta::assert_snapshot!("picture", picture(&boot));
}

/// The text of a section, a line for each row, entry or paragraph.
fn lines(section: Node) -> String {
    let mut lines = Vec::new();
    let blocks = ["h1", "h2", "p", "tr", "li", "dt", "dd", "summary"];
    for block in section.descendants().filter(|node| blocks.contains(&node.tag_name().name())) {
        let cells: Vec<String> = match block.tag_name().name() {
            "tr" => block.children().filter(Node::is_element).map(text).collect(),
            _ => vec![text(block)],
        };
        lines.push(cells.join(" | "));
    }
    lines.join("\n")
}

#[cfg(feature = "png")]
#[test]
fn a_picture_in_pixels_has_the_colours_of_the_drawing() {
    let boot = boot_report(fixture::busy());
    let (facts, explanation) = (facts(), Explanation::default());
    let story = Story { boot: &boot, facts: &facts, explanation: &explanation };
    let png = png(&story, Theme::Light).unwrap_or_else(|error| panic!("{error}"));
    let pixels = resvg::tiny_skia::Pixmap::decode_png(&png).unwrap();
    assert_eq!(pixels.width(), 2400);
    let count = |color: [u8; 3]| {
        let wanted = |pixel: &&resvg::tiny_skia::PremultipliedColorU8| {
            [pixel.red(), pixel.green(), pixel.blue()] == color
        };
        pixels.pixels().iter().filter(wanted).count()
    };
    // The most frequent reason's colour, that of text, and the paper.
    assert!(count([0x00, 0x72, 0xb2]) > 5_000);
    assert!(count([0x1b, 0x1f, 0x24]) > 500, "no text is drawn");
    assert!(count([0xff, 0xff, 0xff]) > pixels.pixels().len() / 2);
}

#[test]
fn of_thousands_of_phases_and_marks_the_first_are_drawn() {
    let mut boot = boot_report(fixture::single());
    for n in 0..5_000 {
        boot.series.begin(&format!("phase {n}"));
        boot.series.add(&tenth(&[(0x72, 1)]));
        boot.marks.push(Mark {
            at: Duration::from_millis(n),
            origin: Origin::Hand,
            text: format!("mark {n}"),
        });
    }
    let page = page(&boot);
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    for told in
        ["5,004 phases, of which the first 200 are drawn", "5,002 marks, of which the first 500 are drawn"]
    {
        assert!(page.contains(told), "{told}");
    }
    assert!(picture(&boot).len() < 1 << 18);
}
