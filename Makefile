# Two commands: `make demo` and `make test`. Both set up what they need first (scripts/setup
# lists it), and both can be run again and again.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo test checks clean-local

# Everything that is prepared or started stays in the checkout.
export FLEETWRIGHT_HOME ?= $(CURDIR)/.fleetwright
export PATH := $(PATH):$(HOME)/.cargo/bin
# A debug build everywhere, so that the tree is compiled once.
PROGRAM = $${CARGO_TARGET_DIR:-target}/debug/fleetwright

help:
	@echo 'make demo         the whole journey on this machine, for real'
	@echo 'make test         every check and every test'
	@echo 'make clean-local  removes what they started and prepared'

demo:
	@scripts/setup run
	cargo build --locked
	@$(PROGRAM) demo

# The end-to-end tests share a local cloud of their own. It is removed before, so that they begin
# from nothing with the program as it is now, and after, whatever came of them.
test:
	@scripts/setup test
	@$(call remove-clouds,$(FLEETWRIGHT_HOME)/test)
	@result=0; $(MAKE) --no-print-directory checks || result=$$?; \
	  $(call remove-clouds,$(FLEETWRIGHT_HOME)/test); exit $$result

checks: export INSTA_UPDATE ?= no
checks:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo nextest run --locked
	cargo test --doc --locked
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

# Removes the local clouds under a folder, and the pipeline server that a demo left running.
define remove-clouds
for cloud in "$(1)"/local/*/; do \
  [ -d "$$cloud" ] || continue; \
  cargo build --locked --quiet || exit 1; \
  name="$$(basename "$$cloud")"; \
  FLEETWRIGHT_HOME="$(1)" $(PROGRAM) demo --stop --name "$$name"; \
  FLEETWRIGHT_HOME="$(1)" $(PROGRAM) local --name "$$name" down || exit 1; \
done
endef

# Local clouds, the machine image, the emulator, and the Docker daemon if it was started here.
clean-local:
	@$(call remove-clouds,$(FLEETWRIGHT_HOME)/test)
	@$(call remove-clouds,$(FLEETWRIGHT_HOME))
	@if [ -d "$(FLEETWRIGHT_HOME)" ]; then cargo build --locked --quiet && $(PROGRAM) local down --purge; fi
	@scripts/setup clean
	@rm -rf "$(FLEETWRIGHT_HOME)"
