# Two commands: `make demo` and `make test`. Both set up what they need first (scripts/setup
# lists it), and both can be run again and again.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo fuzz test test-machines test-kills test-outages test-upgrade test-models test-contexts test-power test-releases test-mixed test-walkthrough test-aws checks clean-local

# Everything that is prepared or started stays in the checkout.
export FLEETWRIGHT_HOME ?= $(CURDIR)/.fleetwright
export PATH := $(PATH):$(HOME)/.cargo/bin
# A debug build everywhere, so that the tree is compiled once.
PROGRAM = $${CARGO_TARGET_DIR:-target}/debug/fleetwright

help:
	@echo 'make demo         the whole journey on this machine, for real'
	@echo 'make test         every check, and the tests that fit into 45 minutes'
	@echo 'make test-machines every test with machines, also those that `make test` leaves out, about an hour'
	@echo 'make test-kills   `apply` and `destroy` killed 200 times, `serve` 1,000 times, and the engine of the leader 100 times while jobs and commands before rollouts run, up to two hours'
	@echo 'make test-outages Docker of all control machines restarted in every order, 2 minutes between, about an hour'
	@echo 'make test-walkthrough the first application of docs/services.md, as it stands: about 5 minutes'
	@echo 'make test-upgrade a fleet of the previous version upgraded by roll, a quarter of an hour'
	@echo 'make test-models  10,000 generated documents for cloud-init and Ignition, 10,000 schedules for croniter, minutes'
	@echo 'make test-contexts 2,000 generated build contexts, built by us and by the docker command, about half an hour'
	@echo 'make test-power   a fleet that loses its power 20 times, and its quorum in every order, about two hours'
	@echo 'make test-releases the shipped documents booted on Debian 13, about 5 minutes'
	@echo 'make test-mixed   the tests of clusters on Debian 12 and 13 together, about 40 minutes'
	@echo 'make fuzz         every parser with 100,000 texts made at random'
	@echo 'make test-aws     the contract tests on AWS itself, in the region FLEETWRIGHT_TEST_AWS'
	@echo 'make clean-local  removes what they started and prepared'

demo:
	@scripts/setup run
	cargo build --locked
	@$(PROGRAM) demo

# The end-to-end tests share a local cloud named `test`, and those of stacks one named `stacks`. They are
# removed before, so that the tests begin from nothing with the program as it is now, and after, whatever
# the result is.
#
# Clippy's driver compiles what is tested, and rustdoc checks links where it runs examples: `cargo clippy` and
# `cargo doc` compile every dependency again, for which two cores take seven minutes.
test:
	@scripts/setup test
	@export RUSTC_WORKSPACE_WRAPPER="$$(rustc --print sysroot)/bin/clippy-driver" CLIPPY_ARGS=-Dwarnings; result=0; \
	  $(call remove-cloud,test); $(call remove-cloud,stacks); \
	  $(MAKE) --no-print-directory checks || result=$$?; \
	  $(call remove-cloud,test); $(call remove-cloud,stacks); exit $$result

# Every parser with many texts made at random; a failure prints the smallest text that shows it.
fuzz: export FLEETWRIGHT_FUZZ_CASES ?= 100000
fuzz:
	cargo test --locked --lib -- without_panic is_stable survives

# Everything that needs machines. `make test` runs the half of it that finds most.
test-machines:
	@scripts/setup test
	@$(call remove-cloud,test)
	@$(call remove-cloud,stacks)
	@result=0; cargo nextest run --locked --profile long \
	    -E 'binary(it) and not test(/^faults_power::long|^agent_outage::(an_engine|machines_whose|workers_join)/)' || result=$$?; \
	  $(call remove-cloud,test); $(call remove-cloud,stacks); exit $$result

# The full forms of tests that `make test` (stacks, pipelines) and `make test-machines` (jobs) run with few kills.
test-kills:
	@scripts/setup test
	FLEETWRIGHT_KILLS=200 cargo nextest run --locked --no-capture -E 'test(/^stacks_killed/)'
	FLEETWRIGHT_KILLS=1000 cargo nextest run --locked --profile long --no-capture -E 'test(/^pipeline_kills/)'
	FLEETWRIGHT_KILLS=100 cargo nextest run --locked --profile long --no-capture -E 'test(/^cluster_jobs::nothing_runs_twice/)'

# `make test-machines` runs the first and the last of these tests, each in a shorter form.
test-outages:
	@scripts/setup test
	FLEETWRIGHT_OUTAGES=all cargo nextest run --locked --no-capture --profile outages -E 'test(/^agent_outage|^faults::every_control/)'

# The first application of docs/services.md, from an empty repository to PostgreSQL.
test-walkthrough:
	@scripts/setup test
	cargo nextest run --locked --profile long --no-capture -E 'test(/^services_walkthrough/)'

# A fleet of the previous version is upgraded by `roll`; the samples in tests/formats are the short form.
FORMER ?= e1e3c77
test-upgrade:
	@scripts/setup test
	@[ -d "$(FLEETWRIGHT_HOME)/former" ] || git worktree add --detach "$(FLEETWRIGHT_HOME)/former" $(FORMER)
	cd "$(FLEETWRIGHT_HOME)/former" && git checkout --quiet --detach $(FORMER) && CARGO_TARGET_DIR=target cargo build --locked
	FLEETWRIGHT_FORMER="$(FLEETWRIGHT_HOME)/former" cargo nextest run --locked --no-capture --run-ignored only -E 'test(/^faults_upgrade/)'

# The full form of tests that `make test` runs with few models.
test-models:
	@scripts/setup test
	FLEETWRIGHT_MODELS=10000 cargo nextest run --locked --no-capture -E 'test(/^cloud_config_oracles|^cron_oracle|^plan::jobs::simulation/)'

# The full form of a test that `make test` runs with few contexts.
test-contexts: export FLEETWRIGHT_CONTEXTS ?= 2000
test-contexts:
	@scripts/setup test
	cargo nextest run --locked --profile long --no-capture -E 'test(/^contexts::generated/)'

# What `make test` leaves out: the power of all machines is cut 20 times, each
# time with delays of its own, and Docker of the control machines is started in each of the 6 orders.
test-power: export FLEETWRIGHT_POWER ?= 20
test-power:
	@scripts/setup test
	@$(call remove-cloud,test)
	@result=0; cargo nextest run --locked --profile long --no-capture -E 'test(/^faults_power/)' || result=$$?; \
	  $(call remove-cloud,test); exit $$result

# The shipped documents, booted on Debian 13; `make test` boots them on Debian 12.
test-releases:
	@scripts/setup test
	cargo nextest run --locked --profile long -E 'test(/^boot::.*debian_13/)'

# The tests of clusters, with control machines of one release and workers of the other, both ways round.
MIXED = test(/^(cluster|faults|announce)/)
test-mixed:
	@scripts/setup test
	@result=0; for mixture in "bookworm trixie" "trixie bookworm"; do \
	  set -- $$mixture; echo "control machines on $$1, workers on $$2"; $(call remove-cloud,test); \
	  FLEETWRIGHT_TEST_CONTROL=$$1 FLEETWRIGHT_TEST_WORKERS=$$2 \
	    cargo nextest run --locked --profile long -E '$(MIXED)' || result=$$?; \
	done; $(call remove-cloud,test); exit $$result

# Never a part of the others: it makes stacks in the caller's own account, and removes them.
test-aws:
	@if [ -z "$(FLEETWRIGHT_TEST_AWS)" ]; then \
	  echo 'error: name the region to test in: make test-aws FLEETWRIGHT_TEST_AWS=eu-west-1' >&2; exit 2; fi
	@if [ -n "$$CI" ]; then echo 'error: tests on AWS are started by a person, not by CI' >&2; exit 2; fi
	@scripts/setup build
	FLEETWRIGHT_TEST_AWS=$(FLEETWRIGHT_TEST_AWS) cargo nextest run --locked --profile aws -E 'test(/^contract::/)'

checks: export INSTA_UPDATE ?= no
checks:
	cargo fmt --check
	cargo nextest run --locked
	cargo build --locked --benches
	RUSTDOC="$(CURDIR)/scripts/rustdoc" cargo test --doc --locked

# Removes a local cloud, the pipeline server that a demo on it left running, and its journal. The program is that of the
# last build, whatever that was for: another build would take minutes.
define remove-cloud
if [ -d "$(FLEETWRIGHT_HOME)/local/$(1)" ]; then \
  { [ -x "$(PROGRAM)" ] || cargo build --locked --quiet; } && \
  $(PROGRAM) demo --stop --name $(1) && \
  $(PROGRAM) local --name $(1) down && \
  rm -rf "$(FLEETWRIGHT_HOME)/demo-$(1)" "$(FLEETWRIGHT_HOME)/serve/$(1)s" || exit 1; \
fi
endef

# Local clouds, the machine image, the emulator, and the Docker daemon if it was started here.
clean-local:
	@$(call remove-cloud,test)
	@$(call remove-cloud,stacks)
	@$(call remove-cloud,local)
	@if [ -d "$(FLEETWRIGHT_HOME)" ]; then cargo build --locked --quiet && $(PROGRAM) local down --purge; fi
	@scripts/setup clean
	@rm -rf "$(FLEETWRIGHT_HOME)"
