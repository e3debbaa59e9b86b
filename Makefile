# What people and CI run. Everything installs what is missing and can be run again at any time.
#
#   DATA_DIR=…          where `make run` keeps its data (default target/dev)
#   CARGO_TARGET_DIR=…  where cargo builds (default target)

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
DATA_DIR ?= target/dev
FANAL := $(TARGET)/release/fanal

# Tests that neither start a server nor wait: they make `make check` quick. Named
# one by one, because --workspace keeps the dependencies as `make test` built them.
PURE_TESTS := house_rules published_format sdk_configuration against_twin allocation captures fuzz_twin outcomes receiver streaming

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## start Fanal with a sample site and traffic; ONCE=1 ends after the table of visits
	scripts/install.sh build libchdb
	cargo build --release --package fanal
	$(FANAL) dev --sample --data-dir '$(DATA_DIR)' $(if $(ONCE),--once)

.PHONY: test
test: ## run every test there is
	scripts/install.sh build tools libchdb sdk browser
	scripts/test.sh

.PHONY: check
check: ## format, lints, house rules, tests of the pure crates
	scripts/install.sh build
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo test --release --workspace $(addprefix --test ,$(PURE_TESTS))

.PHONY: bench
bench: ## run the benchmarks; BENCH=name for one of bench/definitions
	scripts/install.sh build libchdb
	bench/run.sh $(BENCH)
