# make demo   boot a KVM host in software, boot Linux in a VM on it, and show that boot's exits; target/demo has its recording
#             and a page of it then
# make experiment
#             the whole exercise: boots busybox and Debian with systemd, from an IDE and a virtio disk, on AMD's and Intel's
#             processor, three times each, and puts the figures into docs/experiment.md. More than an hour on two cores;
#             interrupted, it goes on where it stopped (target/experiment)
# make test   tests, those on real KVM included: on AMD's SVM with three kernels, and on Intel's VMX. Under half an hour on
#             two cores, which it keeps busy: the two jobs' output comes when each is done.
# make test-all
#             what takes longer too: everything on VMX with three kernels, and inner VMs from every disk and by GRUB
# make kernel KERNEL_SUITE=trixie-backports
#             KVM's modules that count their own exits, in Rust, for that suite's kernel: target/kernel. Five minutes on two
#             cores the first time, and 7 GB in the cache; see docs/kernel.md
# make test-kernel
#             tests of those modules, on SVM and on VMX. Twenty minutes
# make check  formatting and lints
# make bench  what watching exits costs: exitscope, perf, bpftrace and trace-cmd side by side, on one kernel (SUITE=trixie
#             for another), then the speed of what runs in user space. A quarter of an hour on two cores.
# make docs   writes the parts of the documentation that are made from the registry of figures: the tables of docs/output.md,
#             docs/json.md and docs/top.md, and docs/stat.schema.json. Tests compare them
# make build  the release build: target/release/exitscope
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
# Cargo runs the tests on KVM through this: inside an outer VM.
RUNNER := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER

.PHONY: docs build doc man install uninstall demo experiment kernel test test-all test-kernel build-test test-host test-kvm test-first test-second bench bench-exits bench-user check clean

build:
	@scripts/setup build
	cargo build --release --locked

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

test-all: test
	@for suite in $(NEWER); do $(call on-svm,$$suite,kvm,$(MANY_CPUS),$(EVERYWHERE)) && $(call live,$$suite) || exit; done
	@for suite in $(SUITES); do $(call on-vmx,$$suite,kvm,,5400) && $(call on-vmx,$$suite,inner,a_linux_boot) || exit; done
	@for suite in $(SUITES); do $(call on-svm,$$suite,inner,$(ONE_CPU),--include-ignored) || exit; done

# Kernels beside the oldest; and the tests of what is the same on every kernel, which make test runs on the oldest alone.
NEWER := $(filter-out bookworm,$(SUITES))
EVERYWHERE := bad_input:: boot:: record:: top::

# Boots the tests in an outer VM: suite, test program, options of the lab, filters and options of the tests. A machine that
# sleeps for ever, as the emulated ones do now and then, is tried again, and fails in the end.
MANY_CPUS := --smp 2 --time-limit 1200
ONE_CPU := --smp 1 --time-limit 700
in-lab = echo "== on KVM: $(1), $(2)" && $(RUNNER)="$(LAB) run $(3) --suite $(1) --attempts 3 -n --" \
	cargo test $(LAB_TESTS) $(2) -- --test-threads=1 $(4)
# The same for all of them, or they would replace each other's programs while those run.
LAB_TESTS := --locked --workspace --features lab-tests
on-svm = $(call in-lab,$(1),--test $(2),$(3),$(4))
BRING := $(foreach program,exitscope lab examples/guest,--bring $(CURDIR)/target/debug/$(program))
on-vmx = $(call in-lab,$(1),--test $(2),--machine vmx --time-limit $(or $(4),900) $(BRING),$(3))
# Only this package, or each package's tests would boot an outer VM to run none.
live = echo "== on KVM: $(1), live tests" && $(RUNNER)="$(LAB) run $(ONE_CPU) --suite $(1) --attempts 3 -n --" \
	cargo test --locked --package exitscope-collect --features lab-tests --lib -- --test-threads=1 live_tests

build-test:
	@scripts/setup test
	cargo build $(LAB_TESTS) --bins --examples
	cargo test $(LAB_TESTS) --no-run
	@$(LAB) fetch $(SUITES)
	@$(LAB) fetch --system busybox,debian

test-host:
	@scripts/setup test
	cargo test $(LAB_TESTS) --lib --bins --examples --test damage --test top -- --skip live_tests
	cargo test $(LAB_TESTS) --doc

# Two jobs of about the same length, one for each core.
test-first: build-test
	@cargo test $(LAB_TESTS) --test boot -- --test-threads=1
	@$(call on-svm,bookworm,kvm,$(MANY_CPUS),)
	@$(call on-svm,bookworm,inner,$(ONE_CPU),)
	@$(call live,bookworm)

# On VMX a start takes twenty seconds and all tests an hour, so here are those that say the most about it. Linux boots on the
# oldest kernel and on the newest.
test-second: build-test
	@$(call on-vmx,bookworm,kvm,the_selftest both_kinds_of_program an_entry_that_fails a_guest_that_cannot)
	@$(call on-vmx,bookworm,inner,a_linux_boot)
	@for suite in $(NEWER); do \
		$(call on-svm,$$suite,kvm,$(MANY_CPUS),$(foreach module,$(EVERYWHERE),--skip $(module))) || exit; \
	done
	@$(call on-svm,trixie-backports,inner,$(ONE_CPU),--skip _disk)
	@$(call live,trixie-backports)

# All tests on SVM of the kernels in SUITES, but for the boots from disks.
test-kvm: build-test
	@for suite in $(SUITES); do \
		$(call on-svm,$$suite,kvm,$(MANY_CPUS),) && \
		$(call on-svm,$$suite,inner,$(ONE_CPU),--skip _disk) && \
		$(call live,$$suite) || exit; \
	done

kernel:
	@scripts/setup kernel
	cargo build $(LAB_TESTS) --bins
	@$(LAB) kernel --suite $(KERNEL_SUITE)

# Linux guests hang on several CPUs now and then, so they have one.
OURS := --kernel $(CURDIR)/target/kernel/vmlinuz --modules $(CURDIR)/target/kernel
on-ours = echo "== on KVM that counts: $(1)" && $(RUNNER)="$(LAB) run $(OURS) $(2) --attempts 3 -n --" \
	cargo test $(LAB_TESTS) --test kernel -- --test-threads=1 $(3)
test-kernel: build-test kernel
	@$(call on-ours,SVM$(comma) 4 CPUs,--smp 4 --time-limit 300,--skip linux_boot)
	@$(call on-ours,SVM$(comma) a Linux boot,--time-limit 300,linux_boot)
	@$(call on-ours,VMX,--machine vmx $(BRING) --time-limit 1800,)
comma := ,

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
	rustfmt --edition 2021 --check kernel/exitscope/exitscope.rs

clean:
	cargo clean
