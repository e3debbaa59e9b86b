# What people and CI run. Everything installs what is missing and can be run again at any time.
#
#   DATA_DIR=…          where `make run` keeps its data (default target/dev)
#   SEED=…              which visitors the sample has (default 1)
#   STACK_DIR=…         where `make stack` keeps its servers' data (default target/stack)
#   STACK_PORT=…        the first of its 50 ports (default 19000)
#   CARGO_TARGET_DIR=…  where cargo builds (default target)

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
DATA_DIR ?= $(if $(CLUSTER),target/cluster,target/dev)
STACK_DIR ?= target/stack
STACK_START = scripts/stack.sh start --dir '$(STACK_DIR)' $(if $(STACK_PORT),--base-port '$(STACK_PORT)')
FANAL := $(TARGET)/release/fanal

# Tests that neither start a server nor wait: they make `make check` quick. Named
# one by one, because --workspace keeps the dependencies as `make test` built them.
PURE_TESTS := house_rules published_format sdk_configuration against_twin allocation captures fuzz_twin outcomes receiver streaming

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## start Fanal with a sample site and traffic; ONCE=1 ends after the table of visits; CLUSTER=1 starts the stack and runs on it
	scripts/install.sh build libchdb $(if $(CLUSTER),stack)
	cargo build --release --package fanal
	$(if $(CLUSTER),$(STACK_START))
	$(if $(CLUSTER),scripts/stack.sh config --dir '$(STACK_DIR)' >'$(STACK_DIR)/fanal.toml')
	$(FANAL) dev --sample --data-dir '$(DATA_DIR)' $(if $(CLUSTER),--cluster '$(STACK_DIR)/fanal.toml') $(if $(SEED),--seed '$(SEED)') $(if $(ONCE),--once)

.PHONY: stack
stack: ## start real Kafka, HDFS, Cassandra, MariaDB and the ClickHouse engine on loopback
	scripts/install.sh build libchdb stack
	cargo build --release --package fanal
	$(STACK_START)

.PHONY: stack-status
stack-status: ## show which of them run: state, pid, memory, address; fails unless all are ready
	@scripts/stack.sh status --dir '$(STACK_DIR)'

.PHONY: stack-stop
stack-stop: ## stop them; their data stays
	scripts/stack.sh stop --dir '$(STACK_DIR)'

.PHONY: test
test: ## run every test there is
	scripts/install.sh build tools libchdb sdk browser stack readers clients
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
