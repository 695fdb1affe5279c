# make demo   boot a KVM host in software, boot Linux in a VM on it, and show that boot's exits
# make test   every test, those on real KVM included, on three kernels
# make experiment
#             the whole exercise: boots busybox and Debian with systemd, from an IDE and a virtio disk, on AMD's and Intel's
#             processor, three times each, and puts the figures into docs/experiment.md. About an hour and a half on two cores;
#             interrupted, it goes on where it stopped (target/experiment)
# make check  formatting and lints
# make bench  what watching exits costs: exitscope, perf, bpftrace and trace-cmd side by side, on one kernel (SUITE=trixie
#             for another), then the speed of what runs in user space. A quarter of an hour on two cores.
# make build  the release build: target/release/exitscope
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
LAB := $(CURDIR)/target/debug/lab
PREFIX ?= /usr/local
BINARY ?= target/release/exitscope
MAN := $(DESTDIR)$(PREFIX)/share/man/man1
BASH := $(DESTDIR)$(PREFIX)/share/bash-completion/completions/exitscope
ZSH := $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_exitscope
FISH := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/exitscope.fish
# Cargo runs the tests on KVM through this: inside an outer VM.
RUNNER := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER

.PHONY: build man install uninstall demo experiment test test-host test-kvm bench bench-exits bench-user check clean

build:
	@scripts/setup build
	cargo build --release --locked

man: build
	$(BINARY) generate --man target/man

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

test: test-host test-kvm

test-host:
	@scripts/setup test
	cargo test --workspace --locked
	cargo test --locked --package lab --features lab-tests --test boot -- --test-threads=1

test-kvm:
	@scripts/setup test
	cargo build --workspace --bins --examples --locked
	@$(LAB) fetch $(SUITES)
	@for suite in $(SUITES); do \
		echo "== on KVM: $$suite"; \
		$(RUNNER)="$(LAB) run --suite $$suite --smp 2 --time-limit 900 --" \
			cargo test --locked --features lab-tests --test kvm -- --test-threads=1 || exit; \
		$(RUNNER)="$(LAB) run --suite $$suite --time-limit 900 --" \
			cargo test --locked --features lab-tests --test inner -- --test-threads=1 || exit; \
		$(RUNNER)="$(LAB) run --suite $$suite --time-limit 300 --" \
			cargo test --locked --features lab-tests --lib -- live_tests --test-threads=1 || exit; \
	done

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
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

clean:
	cargo clean
