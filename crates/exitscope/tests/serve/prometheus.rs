//! Prometheus and VictoriaMetrics, as Debian has them, beside a made-up host.

use super::tool::{Background, succeed, wait_for};
use super::{Folder, Service, curl};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Two ports on which nobody listens.
fn free_ports() -> [u16; 2] {
    // Both at a time, or they may be one.
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Folder of what is shipped for others.
fn contrib() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../contrib"))
}

/// A server that answers Prometheus' API.
struct Server {
    process: Background,
    port: u16,
}

impl Server {
    fn start(program: &str, arguments: &[String], port: u16) -> Server {
        let mut command = Command::new(program);
        // Into the air: nobody reads their logs, and a full pipe would stop them.
        command.args(arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let process = Background(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")));
        // Prometheus answers before it can be asked.
        let ready =
            format!("http://127.0.0.1:{port}/{}", if program == "prometheus" { "-/ready" } else { "health" });
        let is_ready = || {
            Command::new("curl")
                .args(["--silent", "--fail", "--output", "/dev/null", &ready])
                .status()
                .unwrap()
                .success()
        };
        wait_for(program, is_ready);
        Server { process, port }
    }

    /// Result of a query; empty where there is none.
    fn query(&self, query: &str, more: &[&str]) -> Vec<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let query = format!("query={query}");
        let more = more.iter().flat_map(|more| ["--data-urlencode", more]);
        let arguments: Vec<&str> =
            ["--get", "--data-urlencode", &query].into_iter().chain(more).chain([url.as_str()]).collect();
        let answer: Value = serde_json::from_str(&curl(&arguments)).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    fn number(&self, query: &str, more: &[&str]) -> Option<f64> {
        self.query(query, more).first()?["value"][1].as_str()?.parse().ok()
    }
}

/// Queries of all panels of the board.
fn panels() -> Vec<(String, String)> {
    let board: Value =
        serde_json::from_str(&fs::read_to_string(contrib().join("grafana/exitscope.json")).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned()))
    });
    let filled = queries.map(|(title, query)| {
        let query = query.replace("$instance", ".*").replace("$vm", ".*").replace("$__rate_interval", "10s");
        (title, query)
    });
    filled.collect()
}

#[test]
fn rules_pass_promtool() {
    let folder = contrib().join("prometheus");
    succeed(Command::new("promtool").current_dir(&folder).args(["check", "rules", "exitscope.rules.yml"]));
    succeed(Command::new("promtool").current_dir(&folder).args([
        "test",
        "rules",
        "exitscope.rules.test.yml",
    ]));
}

#[test]
fn prometheus_scrapes_and_every_panel_has_data_and_victoria_metrics_answers_alike() {
    let folder = Folder::new("prometheus");
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let [prometheus_port, victoria_port] = free_ports();
    let victoria = Server::start(
        "victoria-metrics",
        &[
            format!("-storageDataPath={}", path("victoria")),
            format!("-httpListenAddr=127.0.0.1:{victoria_port}"),
            "-search.latencyOffset=0s".into(),
        ],
        victoria_port,
    );
    let service = Service::start(5, &[]);
    let rules = contrib().join("prometheus/exitscope.rules.yml");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{}]\n\
         scrape_configs: [{{job_name: exitscope, static_configs: [{{targets: [\"{}\"]}}]}}]\n\
         remote_write: [{{url: \"http://127.0.0.1:{victoria_port}/api/v1/write\"}}]\n",
        rules.display(),
        service.address
    );
    fs::write(path("prometheus.yml"), config).unwrap();
    let prometheus = Server::start(
        "prometheus",
        &[
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address=127.0.0.1:{prometheus_port}"),
        ],
        prometheus_port,
    );
    let targets = || curl(&[&format!("http://127.0.0.1:{prometheus_port}/api/v1/targets")]);
    wait_for("a target that is up", || targets().contains("\"health\":\"up\""));
    wait_for("scrapes", || {
        prometheus.number("count_over_time(exitscope_counting[1m])", &[]).is_some_and(|count| count > 5.0)
    });
    for (panel, query) in panels() {
        assert!(!prometheus.query(&query, &[]).is_empty(), "{panel}: {query}");
    }
    let total = |query: &str| prometheus.number(query, &[]).unwrap();
    assert_eq!(total("sum(exitscope_exits_total) - sum(exitscope_kvm_exits_total)"), 0.0);
    assert_eq!(total("count(exitscope_vm_info)"), 5.0);
    wait_for("recorded rules", || !prometheus.query("instance_vm:exitscope_exits:rate5m", &[]).is_empty());

    // Of one scrape both have the same numbers.
    let time =
        prometheus.query("timestamp(exitscope_counting)", &[])[0]["value"][1].as_str().unwrap().to_owned();
    let at = format!("time={time}");
    for query in [
        "sum(exitscope_exits_total)",
        "sum(exitscope_host_time_seconds_total)",
        "count(exitscope_exits_total)",
    ] {
        let expected = prometheus.number(query, &[&at]).unwrap();
        let alike = |found: f64| (found - expected).abs() <= expected.abs() * 1e-12;
        wait_for(query, || victoria.number(query, &[&at, "nocache=1"]).is_some_and(alike));
    }

    // Begun again, its counters are smaller: a reset, and no jump. The same port is the same instance.
    let address = service.address.clone();
    let before = total("sum(exitscope_exits_total)");
    drop(service);
    // Its process that speaks HTTP ends a little later.
    wait_for("its port to be free", || TcpListener::bind(&address).is_ok());
    let again = Service::start_at(&address, 5, &[]);
    wait_for("scrapes of the next one", || {
        prometheus.number("sum(exitscope_exits_total)", &[]).is_some_and(|now| now < before)
    });
    assert!(total("sum(resets(exitscope_exits_total[1m]))") > 0.0);
    let rate = total("max(sum(rate(exitscope_exits_total[1m])))");
    let of_made_up = before / total("sum(count_over_time(exitscope_counting[10m]))").max(1.0);
    assert!(rate >= 0.0 && rate < 100.0 * of_made_up, "{rate}, {of_made_up}");
    drop((again, prometheus.process, victoria.process));
}
