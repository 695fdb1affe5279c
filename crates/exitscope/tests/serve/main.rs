//! `exitscope serve` on a host that is made up: what scrapers get, what hostile clients can do, and what the process that
//! speaks HTTP may not. Needs no KVM. What needs root is more of the same where root runs it.

mod prometheus;
#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod tool;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tool::{Background, all, exitscope, succeed, wait_for};

/// A running service.
pub(crate) struct Service {
    collector: Background,
    pub address: String,
    errors: BufReader<std::process::ChildStderr>,
}

impl Service {
    pub fn start(vms: u32, options: &[&str]) -> Service {
        Service::start_at("127.0.0.1:0", vms, options)
    }

    pub fn start_at(address: &str, vms: u32, options: &[&str]) -> Service {
        let mut command = exitscope();
        command.args(["serve", "--made-up", &vms.to_string(), "--web.listen-address", address]).args(options);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child: Child = command.spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let address = line.split("://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        Service { collector: Background(child), address, errors }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The process that speaks HTTP.
    pub fn http(&self) -> u32 {
        let pid = self.collector.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().parse().unwrap_or_else(|_| panic!("children: {children:?}"))
    }
}

fn curl(arguments: &[&str]) -> String {
    succeed(Command::new("curl").args(["--silent", "--show-error", "--max-time", "60"]).args(arguments))
}

/// Sum of the series of a metric.
fn sum(text: &str, name: &str) -> f64 {
    let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let numbers =
        text.lines().filter(of).map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
    numbers.sum()
}

/// Resident memory of a process (bytes).
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A folder that is removed when this is dropped.
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("exitscope-serve-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn scrapers_get_the_format_that_they_ask_for() {
    let service = Service::start(20, &["--top-details", "3", "--workers"]);
    let plain = curl(&[&service.url("/metrics")]);
    assert!(plain.contains("# TYPE exitscope_exits_total counter\n") && !plain.contains("# EOF"), "{plain}");
    assert_eq!(sum(&plain, "exitscope_vms"), 20.0);
    assert_eq!(sum(&plain, "exitscope_exits_total"), sum(&plain, "exitscope_kvm_exits_total"));
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let open = curl(&["-i", "--compressed", "-H", accept, &service.url("/metrics")]);
    assert!(
        open.contains("Content-Encoding: gzip") && open.contains("application/openmetrics-text"),
        "{open}"
    );
    assert!(open.contains("# TYPE exitscope_exits counter\n") && open.ends_with("# EOF\n"), "{open}");
    let body = open.split_once("\r\n\r\n").unwrap().1;
    assert!(
        sum(body, "exitscope_exits_total") > sum(&plain, "exitscope_exits_total"),
        "each scrape is a reading"
    );

    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(plain.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success() && all(&output).is_empty(), "{}", all(&output));

    let status = |arguments: &[&str]| curl(&[&["-o", "/dev/null", "-w", "%{http_code}"], arguments].concat());
    assert!(curl(&[&service.url("/")]).contains("<a href=\"metrics\">"));
    assert_eq!(status(&[&service.url("/other")]), "404");
    assert_eq!(status(&["-X", "DELETE", &service.url("/metrics")]), "405");
    assert_eq!(status(&["-I", &service.url("/metrics")]), "200");

    service.collector.signal(libc::SIGTERM);
    let mut words = String::new();
    let mut errors = service.errors;
    errors.read_to_string(&mut words).unwrap();
    assert_eq!(words, "", "an end that was asked for needs no words");
    assert!(service.collector.finish().status.success());
}

#[test]
fn a_thousand_vms_fit_in_six_megabytes() {
    let service = Service::start(1000, &["--histograms", "none"]);
    let text = curl(&[&service.url("/metrics")]);
    // Twelve reasons, where ten are asked for.
    let reasons = text.lines().filter(|line| line.starts_with("exitscope_exits_total{")).count();
    assert_eq!(reasons, 12_000);
    assert_eq!(sum(&text, "exitscope_series_cut"), 0.0);
    assert!(text.len() * 10 / 12 <= 6_000_000, "{} bytes", text.len());
}

#[test]
fn tls_and_passwords() {
    let folder = Folder::new("tls");
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    let files = ["-keyout", &path("web.key"), "-out", &path("web.crt")].map(str::to_owned);
    succeed(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "3650",
            ])
            .args(subject)
            .args(files)
            .stderr(Stdio::null()),
    );
    let hash = bcrypt::hash("right", 4).unwrap();
    let config = path("web.yml");
    fs::write(&config, format!("tls_server_config: {{cert_file: web.crt, key_file: web.key}}\nbasic_auth_users: {{prom: {hash}}}\n")).unwrap();
    let service = Service::start(2, &["--web.config.file", &config]);
    let url = service.url("/metrics").replace("http:", "https:");
    let status = |arguments: &[&str]| {
        let more = ["-o", "/dev/null", "-w", "%{http_code} %{errormsg}", "--cacert", &path("web.crt")]
            .map(str::to_owned);
        let output = Command::new("curl").arg("--silent").args(more).args(arguments).output().unwrap();
        // The code, and the error where there is one.
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(status(&["-u", "prom:right", &url]), "200");
    assert_eq!(status(&["-u", "prom:right", "--tlsv1.2", "--tls-max", "1.2", &url]), "200");
    for wrong in ["prom:wrong", "prom:", "nobody:right"] {
        assert_eq!(status(&["-u", wrong, &url]), "401", "{wrong}");
    }
    assert_eq!(status(&[&url]), "401");
    assert!(
        status(&["-u", "prom:right", &service.url("/metrics")]).starts_with("000"),
        "TLS alone is spoken"
    );
    // Nobody trusts the certificate by itself.
    let untrusted = Command::new("curl").args(["--silent", &url]).status().unwrap();
    assert_eq!(untrusted.code(), Some(60));
}

#[test]
fn a_busy_cpu_disturbs_no_start() {
    // Threads of the service that have not begun when it gives up its rights would end it. What this thread starts shares
    // its one CPU.
    let mut one = CpuSet::new();
    let own = sched_getaffinity(None).unwrap();
    one.set((0..CpuSet::MAX_CPU).find(|cpu| own.is_set(*cpu)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    let _busy = [(); 2].map(|()| Background::start(Command::new("sh").args(["-c", "while :; do :; done"])));
    for _ in 0..20 {
        let service = Service::start(1, &[]);
        assert_eq!(sum(&curl(&[&service.url("/metrics")]), "exitscope_vms"), 1.0);
    }
}

#[test]
fn hostile_clients_neither_stop_it_nor_grow_it() {
    let service = Service::start(200, &[]);
    let scrape = || curl(&[&service.url("/metrics")]);
    for _ in 0..5 {
        scrape();
    }
    let processes = [service.collector.pid(), service.http()];
    let before = processes.map(memory);
    // A thousand that say nothing, half a request, or take nothing of an answer.
    let mut held = Vec::new();
    for number in 0..1000 {
        let Ok(mut stream) = TcpStream::connect(&service.address) else { continue };
        let words: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /metrics HTTP/1.1\r\nHost: ",
            _ => b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        };
        let _ = stream.write_all(words);
        held.push(stream);
    }
    let first = sum(&scrape(), "exitscope_exits_total");
    // 1 GB, as long as anybody takes it.
    let mut stream = TcpStream::connect(&service.address).unwrap();
    let _ = stream.write_all(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
    let piece = vec![b'x'; 1 << 20];
    let taken = (0..1000).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(taken < 100, "{taken} MB of a body were taken");
    // A head without an end.
    let mut stream = TcpStream::connect(&service.address).unwrap();
    let endless = (0..1000).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(endless < 100, "{endless} MB of a head were taken");
    let begin = Instant::now();
    assert!(sum(&scrape(), "exitscope_exits_total") > first);
    assert!(begin.elapsed() < Duration::from_secs(60));
    for (before, now) in before.iter().zip(processes.map(memory)) {
        assert!(now < before + (48 << 20), "{before} bytes became {now}");
    }
}

#[test]
fn whoever_takes_over_the_process_that_speaks_http_gets_nothing() {
    let service = Service::start(1, &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", service.http())).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(name), "0000000000000000", "{name}");
    }
    assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
    if rustix::process::geteuid().is_root() {
        assert!(!field("Uid:").split_whitespace().any(|uid| uid == "0"), "{}", field("Uid:"));
        assert_eq!((field("CapBnd:").as_str(), field("Groups:").as_str()), ("0000000000000000", ""));
    }
    let victim = Background::start(Command::new("sleep").arg("100"));
    let (channel, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = exitscope();
    command.args([
        "serve-http",
        "--web.listen-address",
        "127.0.0.1:0",
        "--attack",
        &victim.pid().to_string(),
    ]);
    let output = command.stdin(Stdio::from(std::os::fd::OwnedFd::from(channel))).output().unwrap();
    let text = all(&output);
    assert!(output.status.success() && !text.contains("SUCCEEDED"), "{text}");
    for name in ["ptrace", "process_vm_readv", "bpf", "open", "socket", "setuid"] {
        assert!(text.contains(&format!("{name}: Operation not permitted")), "{name}: {text}");
    }
}

#[test]
fn the_end_of_either_process_is_that_of_both_and_said() {
    for whose in ["http", "collector"] {
        let mut service = Service::start(1, &[]);
        let http = service.http();
        let pid =
            libc::pid_t::try_from(if whose == "http" { http } else { service.collector.pid() }).unwrap();
        // SAFETY: a plain system call on a process of this test.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        let mut words = String::new();
        service.errors.read_to_string(&mut words).unwrap();
        let expected =
            if whose == "http" { "the process that speaks HTTP ended" } else { "the collector ended" };
        assert!(words.contains(expected), "{words:?}");
        wait_for("both to end", || !Path::new(&format!("/proc/{http}/exe")).exists());
        assert!(!service.collector.finish().status.success());
    }
}

#[test]
fn a_text_file_is_replaced_and_no_port_is_opened() {
    let folder = Folder::new("textfile");
    let mut command = exitscope();
    command.args(["serve", "--made-up", "2", "-i", "50ms", "--collect.textfile"]).arg(&folder.0);
    let service = Background::start(&mut command);
    let file = folder.0.join("exitscope.prom");
    let read = || fs::read_to_string(&file).unwrap_or_default();
    wait_for("a file", || !read().is_empty());
    let first = sum(&read(), "exitscope_readings_total");
    wait_for("the next one", || sum(&read(), "exitscope_readings_total") > first);
    let pid = service.pid();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap(), "");
    service.signal(libc::SIGTERM);
    assert!(service.finish().status.success());
    assert!(!file.exists());
}
