# `make` alone tells what there is.
.DEFAULT_GOAL := help
.PHONY: help demo test lint fmt ci loadtest compare faults servers clean

CARGO ?= cargo
# More flags for the demo and the load test: make demo ARGS="--seconds 30"
ARGS ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

demo: ## the canonical load on embedded stores with real gRPC gateways, and its report (needs only Rust)
	$(CARGO) run --release --locked -p loadtest -- run $(ARGS)

test: servers ## all tests; installs missing servers first (apt-get)
	$(CARGO) test --workspace --locked

lint: ## format and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## formats the code
	$(CARGO) fmt --all

ci: ## what CI runs: lint, tests, a short demo
	bash .ci/run

loadtest: servers ## the canonical load on real servers (ARGS="--workload group-100 --protocol batch", "--help")
	$(CARGO) build --release --locked --workspace --bins
	target/release/loadtest run --servers $(ARGS)

compare: servers ## task-engine against the plain Tokio reference engine, trial by trial (ARGS="--trials 3")
	$(CARGO) build --release --locked --workspace --bins
	target/release/loadtest compare --engine reference --engine task-engine $(ARGS)

faults: servers ## each fault under load on real processes, and what it cost (root; ARGS="--only nats-kill", "--list")
	$(CARGO) build --release --locked --workspace --bins
	target/release/loadtest faults --write RELIABILITY.md $(ARGS)

servers: ## installs nats-server, redis-server, mariadb-server and etcd-server when missing
	@scripts/install-servers

clean: ## removes what was built
	$(CARGO) clean
