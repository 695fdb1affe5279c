# make demo   boot a KVM host in software, boot Linux in a VM on it, and show that boot's exits; target/demo has its recording
#             and a page of it then
# make experiment
#             the whole exercise: boots busybox and Debian with systemd, from an IDE and a virtio disk, on AMD's and Intel's
#             processor, three times each, and puts the figures into docs/experiment.md. More than an hour on two cores;
#             interrupted, it goes on where it stopped (target/experiment)
# make test   tests, those on real KVM included: on AMD's SVM with three kernels, and on Intel's VMX. Under half an hour on
#             two cores, which it keeps busy: the two jobs' output comes when each is done.
# make test-all
#             what takes longer too: everything on VMX with three kernels, and inner VMs from every disk and by GRUB. It
#             is made of shards, and interrupted or failed, it goes on where it stopped: what has passed for these very
#             sources is not run again
# make list-shards
#             the shards, what each is, and whether it has passed for these sources
# make test-shard SHARD=svm-trixie-kvm
#             that shard alone
# make kernel KERNEL_SUITE=trixie-backports
#             KVM's modules that count their own exits, in Rust, for that suite's kernel: target/kernel. Five minutes on two
#             cores the first time, and 7 GB in the cache; see docs/kernel.md
# make test-kernel
#             tests of those modules, on SVM and on VMX, three shards. Twenty minutes
# make check  formatting and lints
# make bench  what watching exits costs: exitscope, perf, bpftrace and trace-cmd side by side, on one kernel (SUITE=trixie
#             for another), then the speed of what runs in user space. A quarter of an hour on two cores.
# make fuzz TARGET=console SECONDS=600
#             one of the fuzz targets in fuzz/fuzz_targets, for that long
# make docs   writes the parts of the documentation that are made from the registry of figures: the tables of docs/output.md,
#             docs/json.md and docs/top.md, and docs/stat.schema.json. Tests compare them
# make build  the release build: target/release/exitscope
# make deb, make rpm, make dist
#             packages in target/packages: for Debian and its relatives, for Fedora and its relatives, or both with a tarball
#             that runs on any x86-64 Linux since glibc 2.28, and checksums
# make test-packages
#             makes them and tries them as users would: in clean roots of Debian 11, 12 and 13, by rpm, by cargo install
# make test-serve
#             the service with Prometheus, VictoriaMetrics and hostile clients, on loopback, and in the lab with VMs that come and
#             go; installs Debian's packages of these, which starts them as services where systemd runs
# make doc    the documentation of the code: target/doc
# make man    the manual pages of that build: target/man/*.1
# make install PREFIX=/usr/local
#             installs what `make build` has made, with its manual pages and completions; builds nothing, so that
#             `sudo make install` leaves nothing of root's behind. DESTDIR is put in front of every path.
# make uninstall
#             removes that again
#
# Debian packages that are missing are installed, after saying which.

SHELL := /bin/bash
SUITES ?= bookworm trixie trixie-backports
SUITE ?= bookworm
KERNEL_SUITE ?= trixie-backports
LAB := $(CURDIR)/target/debug/lab
PREFIX ?= /usr/local
BINARY ?= target/release/exitscope
MAN := $(DESTDIR)$(PREFIX)/share/man/man1
BASH := $(DESTDIR)$(PREFIX)/share/bash-completion/completions/exitscope
ZSH := $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_exitscope
FISH := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/exitscope.fish
# The same for all tests, or they would replace each other's programs while those run.
LAB_TESTS := --locked --workspace --features lab-tests
# How the tests' shards are run: "run", or "missing" to leave out those that have passed for these sources.
RUN ?= run
export SUITES

.PHONY: docs build packages deb rpm dist test-packages test-serve doc man install uninstall demo experiment kernel test test-all test-kernel build-test test-host test-kvm \
	test-first test-second test-shard known-shard list-shards bench bench-exits bench-user check fuzz clean

build:
	@scripts/setup build
	cargo build --release --locked

packages:
	@scripts/setup packages
	@scripts/package program

deb rpm: packages
	@scripts/package $@

dist: packages
	@for package in deb rpm tar sums; do scripts/package $$package || exit; done

test-packages: dist
	@scripts/setup test-packages
	@scripts/test-packages

test-serve:
	@scripts/setup test-serve
	cargo test $(LAB_TESTS) --test serve -- --test-threads=1
	cargo build $(LAB_TESTS) --bins
	@$(LAB) fetch bookworm
	@$(LAB) run --time-limit 600 --attempts 3 -- scripts/test-serve-lab

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

man: build
	$(BINARY) generate --man target/man

docs:
	UPDATE_DOCS=1 cargo test --locked -p exitscope-view --lib docs::
	UPDATE_DOCS=1 cargo test --locked -p exitscope --lib columns_are_documented

install:
	@test -x $(BINARY) || { echo "install: there is no $(BINARY); make it first, as yourself: make build" >&2; exit 1; }
	install -D -m 755 $(BINARY) "$(DESTDIR)$(PREFIX)/bin/exitscope"
	install -d "$(MAN)" "$(dir $(BASH))" "$(dir $(ZSH))" "$(dir $(FISH))"
	$(BINARY) generate --man "$(MAN)"
	$(BINARY) generate --completions bash >"$(BASH)"
	$(BINARY) generate --completions zsh >"$(ZSH)"
	$(BINARY) generate --completions fish >"$(FISH)"

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/exitscope" "$(MAN)"/exitscope.1 "$(MAN)"/exitscope-*.1 "$(BASH)" "$(ZSH)" "$(FISH)"

demo:
	@scripts/setup demo
	@scripts/demo

experiment:
	@scripts/setup experiment
	cargo build --workspace --bins --locked
	@$(LAB) experiment

test: test-host
	@$(MAKE) --no-print-directory -j2 --output-sync=target test-first test-second

# Everything, in order: first what `make test` runs, in its two jobs.
test-all:
	@$(MAKE) --no-print-directory test RUN=missing RESUME="make test-all"
	@RESUME="make test-all" scripts/shards missing all

build-test:
	@scripts/setup test
	cargo build $(LAB_TESTS) --bins --examples
	cargo test $(LAB_TESTS) --no-run
	@$(LAB) fetch $(SUITES)
	@$(LAB) fetch --system busybox,debian

RESUME ?= make test RUN=missing
shards = RESUME="$(RESUME)" scripts/shards $(RUN)
test-host:
	@scripts/setup test
	@$(shards) host doc

# Two jobs of about the same length, one for each core. The first has the oldest kernel, and the second what is left for the
# others. On VMX a start takes twenty seconds and all tests an hour, so here are those that say the most about it. Linux boots
# on the oldest kernel and on the newest.
OLDEST := $(firstword $(SUITES))
NEWER := $(filter-out $(OLDEST),$(SUITES))
test-first: build-test
	@$(shards) lab-boot $(addprefix svm-$(OLDEST)-,kvm kvm-same inner disks live)

test-second: build-test
	@$(shards) vmx-$(OLDEST)-core vmx-$(OLDEST)-inner $(NEWER:%=svm-%-kvm) \
		$(addprefix svm-,$(addsuffix -inner,$(lastword $(NEWER))) $(addsuffix -live,$(lastword $(NEWER))))

# All tests on SVM of the kernels in SUITES, but for the boots from disks.
test-kvm: build-test
	@RESUME="make test-kvm RUN=missing" scripts/shards $(RUN) svm

test-shard: known-shard build-test $(if $(filter kernel-%,$(SHARD)),kernel)
	@scripts/shards run $(SHARD)

known-shard:
	@test -n "$(SHARD)" || { echo "test-shard: SHARD names the shard; make list-shards lists them" >&2; exit 2; }
	@scripts/shards --dry-run run $(SHARD) >/dev/null

list-shards:
	@scripts/shards list

kernel:
	@scripts/setup kernel
	cargo build $(LAB_TESTS) --bins
	@$(LAB) kernel --suite $(KERNEL_SUITE)

test-kernel: build-test kernel
	@RESUME="make test-kernel RUN=missing" scripts/shards $(RUN) kernel

bench: bench-exits bench-user

bench-exits:
	@scripts/setup bench
	cargo build --release --locked
	cargo build --package lab --locked
	@$(LAB) fetch $(SUITE)
	@echo "== what each tool adds to an exit, a minute for each: $(SUITE)"
	@$(LAB) bench --suite $(SUITE) --markdown target/bench-$(SUITE).md
	@echo "the same, with the commands: target/bench-$(SUITE).md"

bench-user:
	@scripts/setup build
	@echo "== what runs in user space, two minutes"
	cargo bench --locked --features bench --bench '*'

check:
	@scripts/setup build
	scripts/check-prose
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	rustfmt --edition 2021 --check kernel/exitscope/exitscope.rs

TARGET ?=
SECONDS ?= 600
fuzz:
	@scripts/setup build
	@scripts/fuzz "$(TARGET)" "$(SECONDS)"

clean:
	cargo clean
