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

test:
	@scripts/setup test
	@$(MAKE) --no-print-directory checks

checks: export INSTA_UPDATE ?= no
checks:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo nextest run --locked
	cargo test --doc --locked
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

# Local clouds, the machine image, the emulator, and the Docker daemon if it was started here.
clean-local:
	@if [ -d "$(FLEETWRIGHT_HOME)/local" ]; then \
	  cargo build --locked --quiet && \
	  for cloud in "$(FLEETWRIGHT_HOME)"/local/*/; do \
	    [ -d "$$cloud" ] || continue; \
	    $(PROGRAM) local --name "$$(basename "$$cloud")" down || exit 1; \
	  done; \
	fi
	@if [ -d "$(FLEETWRIGHT_HOME)" ]; then cargo build --locked --quiet && $(PROGRAM) local down --purge; fi
	@scripts/setup clean
	@rm -rf "$(FLEETWRIGHT_HOME)"
