# make demo   boot a KVM host in software, boot Linux in a VM on it, and show that boot's exits
# make test   every test, those on real KVM included, on three kernels
# make check  formatting and lints
# make build  the release build: target/release/exitscope
#
# Debian packages that are missing are installed, after saying which.

SHELL := /bin/bash
SUITES ?= bookworm trixie trixie-backports
LAB := $(CURDIR)/target/debug/lab
# Cargo runs the tests on KVM through this: inside an outer VM.
RUNNER := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER

.PHONY: build demo test test-host test-kvm check clean

build:
	@scripts/setup build
	cargo build --release --locked

demo:
	@scripts/setup demo
	@scripts/demo

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
		$(RUNNER)="$(LAB) run --suite $$suite --time-limit 300 --" \
			cargo test --locked --features lab-tests --test inner --lib -- a_linux_boot live_tests --test-threads=1 || exit; \
	done

check:
	@scripts/setup build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

clean:
	cargo clean
