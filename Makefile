# `make` alone tells what there is.
.DEFAULT_GOAL := help
.PHONY: help demo test simulate lint fmt ci loadtest servers clean

CARGO ?= cargo
# More flags for the demo and the load test: make demo ARGS="--seconds 30"
ARGS ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

demo: ## the whole path on embedded stores with real gRPC gateways, and a report (needs only Rust)
	$(CARGO) run --release --locked -p loadtest -- demo $(ARGS)

test: servers ## all tests; installs missing servers first (apt-get)
	$(CARGO) test --workspace --locked

# Fresh seeds each time, unless FROM names the first one: make simulate SEEDS=1000 FROM=1
SEEDS ?= 1000
FROM ?= $(shell date +%s)

simulate: ## SEEDS fresh schedules of the core in a simulated world, and all seeds that ever failed
	SIM_SEEDS=$(SEEDS) SIM_FROM=$(FROM) $(CARGO) test --locked -p task-engine --test conservation -- --nocapture

lint: ## format and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## formats the code
	$(CARGO) fmt --all

ci: ## what CI runs: lint, tests, a short demo
	bash .ci/run

loadtest: servers ## the load test (ARGS="real" or "demo", then --help and the flags it names)
	$(CARGO) build --release --locked --workspace --bins
	target/release/loadtest $(if $(ARGS),$(ARGS),real)

servers: ## installs nats-server, redis-server, mariadb-server and etcd-server when missing
	@scripts/install-servers

clean: ## removes what was built
	$(CARGO) clean
