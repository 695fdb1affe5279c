//! `exitscope serve` on real KVM: VMs that come and go, its counts beside those of `stat` and of KVM.

use super::tool::{Background, Report, Scratch, exitscope, succeed, wait_for, wait_until_counting};
use super::turns::Turns;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// Value of a metric, summed over its series that have all of these labels.
fn sum(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let has = |line: &&str| {
        line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
    };
    let numbers =
        text.lines().filter(has).map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
    numbers.fold(None, |sum, number| Some(sum.unwrap_or(0.0) + number))
}

#[test]
fn scrapes_tell_what_stat_and_kvm_count_while_vms_come_and_go() {
    succeed(Command::new("ip").args(["link", "set", "lo", "up"]));
    let mut command = exitscope();
    command.args([
        "serve",
        "--web.listen-address",
        "127.0.0.1:0",
        "--grace",
        "1s",
        "--per-vcpu",
        "--top-details",
        "5",
    ]);
    let mut child: Child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let service = Background(child);
    let mut said = |word: &str| {
        let line = errors.find(|line| line.as_ref().unwrap().contains(word)).unwrap().unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    let url = said("listening on");
    said("counting");
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics");
    let scrape = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    };

    let file = Scratch::new("serve");
    let stat = Background::start(exitscope().args(["stat", "-f", "json", "-o"]).arg(&file));
    wait_until_counting(&stat);
    let mut vms = [Turns::called(&["qemu-system-x86_64", "-name", "guest=one\"\n"]), Turns::start()];
    for vm in &mut vms {
        vm.say("turn");
    }
    vms[1].say("turn");
    let text = scrape();
    let [one, two] = [&vms[0], &vms[1]].map(|vm| format!("pid=\"{}\"", vm.pid()));
    let cpuid = |text: &str, pid: &str| sum(text, "exitscope_exits_total", &[pid, "reason=\"CPUID\""]);
    assert_eq!((cpuid(&text, &one), cpuid(&text, &two)), (Some(1000.0), Some(2000.0)), "{text}");
    assert!(text.contains(r#"vm="one\"\\n""#), "{text}");
    assert_eq!(sum(&text, "exitscope_vms", &[]), Some(2.0));
    for (vm, pid) in vms.iter_mut().zip([&one, &two]) {
        let text = scrape();
        assert_eq!(sum(&text, "exitscope_kvm_exits_difference", &[pid]), Some(0.0), "{text}");
        let kvm = sum(&text, "exitscope_kvm_exits_total", &[pid]);
        assert_eq!(kvm, Some(exitscope_model::float(vm.kvm_exits())), "{text}");
    }
    assert_eq!(sum(&text, "exitscope_lost_total", &[]), Some(0.0), "{text}");
    stat.signal(libc::SIGINT);
    assert!(stat.finish().status.success());
    let report = Report::parse(&file.read());
    report.assert_proven();
    let last = scrape();
    for (pid, _) in [(vms[0].pid(), 0), (vms[1].pid(), 0)] {
        let all = sum(&last, "exitscope_exits_total", &[&format!("pid=\"{pid}\"")]).unwrap();
        let stat: u64 = report
            .counts_by_process()
            .iter()
            .filter(|((of, ..), _)| *of == u64::from(pid))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(all, exitscope_model::float(stat), "{last}");
    }

    // One ends, is shown for a while, and leaves; the other's counters go on.
    let host = sum(&last, "exitscope_host_exit_duration_seconds_count", &["CPUID"]);
    let [first, mut second] = vms;
    drop(first);
    wait_for("it to leave", || cpuid(&scrape(), &one).is_none());
    second.say("turn");
    let text = scrape();
    assert_eq!(cpuid(&text, &two), Some(3000.0));
    assert_eq!(
        sum(&text, "exitscope_host_exit_duration_seconds_count", &["CPUID"]),
        host.map(|host| host + 1000.0)
    );
    service.signal(libc::SIGTERM);
    assert!(service.finish().status.success());
}
