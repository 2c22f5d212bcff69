# `make` alone tells what there is.
.DEFAULT_GOAL := help
.PHONY: board build-demo tools help demo test packages book deb example-go simulate fuzz models deny lint fmt ci loadtest compare measure yardstick faults takeovers bench bench-servers instructions servers clean

CARGO ?= cargo
# More flags for the demo and the load test: make demo ARGS="--seconds 30"
ARGS ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-14s %s\n' "$$name" "$$what"; done

# Asked before the servers are installed: that takes minutes.
tools: # what a build needs that a bare machine lacks
	@CARGO=$(CARGO) scripts/check-tools

demo: tools ## the canonical load on stores in memory with real gRPC gateways, and its report (needs only Rust and a C compiler; quick to build, so its figures do not count)
	$(CARGO) run --profile demo --locked -p loadtest --no-default-features -- run $(ARGS)

# Most tests wait for servers most of the time: four at once, or as many as there are CPUs.
TEST_THREADS ?= $(shell n=$$(nproc); [ $$n -gt 4 ] && echo $$n || echo 4)

test: tools servers ## all tests; installs missing servers first (apt-get, and NATS's current one with pip)
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --workspace --locked
	@echo "== once more, the engine over TLS on all links"
	TEST_OVER_TLS=1 RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --workspace --locked --test engine

# Fresh seeds each time, unless FROM names the first one: make simulate SEEDS=1000 FROM=1
SEEDS ?= 1000
FROM ?= $(shell date +%s)
WORLDS ?= --test conservation --test ownership

simulate: ## SEEDS fresh schedules of the core and of partition ownership in their simulated worlds, and all seeds that ever failed
	SIM_SEEDS=$(SEEDS) SIM_FROM=$(FROM) $(CARGO) test --workspace --locked $(WORLDS) -- --nocapture

fuzz: ## each parser of foreign bytes, EXECUTIONS times its share in CI (FUZZ_SEED=7: other inputs)
	FUZZ_TIMES=$(EXECUTIONS) $(CARGO) test --locked -p task-engine --lib fuzzed_ -- --nocapture

EXECUTIONS ?= 10

models: ## every order of two threads at the seqlock and at the mailbox's wake (loom), random schedules of three and four (shuttle)
	$(CARGO) test --locked -p interleavings

deny: ## licenses, sources, crates that are there twice (ARGS=advisories asks GitHub for known vulnerabilities)
	@scripts/install-cargo-deny
	.servers/cargo-deny --workspace --locked check $(or $(ARGS),bans licenses sources)

lint: ## format and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## formats the code
	$(CARGO) fmt --all

ci: ## what CI runs: lint, tests, fresh seeds, short loads on real servers, a short demo
	bash .ci/run

# The engine that is measured is the one that ships: built alone, with its own features. The load test comes apart, and
# brings its own copy of the engine for loads on stores in memory.
BUILD_MEASURED = $(CARGO) build --release --locked -p task-engine && $(CARGO) build --release --locked -p loadtest

build-demo: tools # for .ci/run: the demo, and the engine as a program built as quickly
	$(CARGO) build --profile demo --locked -p task-engine
	$(CARGO) build --profile demo --locked -p loadtest --no-default-features

loadtest: servers ## the canonical load on real servers (ARGS="--workload group-100 --protocol batch", "--help")
	$(BUILD_MEASURED)
	target/release/loadtest run --servers $(ARGS)

compare: servers ## task-engine against the plain Tokio reference engine, trial by trial (ARGS="--trials 3")
	$(BUILD_MEASURED)
	target/release/loadtest compare --engine reference --engine task-engine $(ARGS)

measure: servers ## every table of PERF.md anew, one line per trial in loadtest/runs/summary.jsonl (some 20 minutes; TRIALS=5 SECONDS_EACH=4)
	$(BUILD_MEASURED)
	scripts/measure

yardstick: servers ## task-engine against the bare program, which promises nothing (ARGS="--window 100000 --protocol batch")
	$(BUILD_MEASURED)
	target/release/loadtest compare --engine bare --engine task-engine $(ARGS)

# All but `instructions`, which is no stopwatch and wants valgrind, and those that drive real servers.
BENCHES = $(filter-out instructions inbox jetstream partitioner,$(basename $(notdir $(wildcard benches/*.rs))))

bench: ## time and allocations per recipient, stage by stage (ARGS="--save-baseline old", then "--baseline old")
	$(CARGO) bench --locked -p task-engine $(BENCHES:%=--bench %) -- $(ARGS)

instructions: ## instructions per recipient, counted by callgrind (needs valgrind)
	$(CARGO) bench --locked -p task-engine --bench instructions -- $(ARGS)

bench-servers: servers ## rows per second into MariaDB and PostgreSQL; events per second of JetStream and the partitioner, against bare loops
	$(CARGO) bench --locked -p task-engine --bench inbox --bench jetstream --bench partitioner

# The tables say what was lost, repeated or late, not how fast it is, so PROFILE=demo will do: built in a few minutes.
PROFILE ?= release
BUILD_FAULTS = $(CARGO) build --profile $(PROFILE) --locked -p task-engine && $(CARGO) build --profile $(PROFILE) --locked -p loadtest

faults: servers ## each fault under load on real processes, and what it cost (root; ARGS="--only nats-kill", "--instances 3", "--list")
	@scripts/install-servers faults
	$(BUILD_FAULTS)
	target/$(PROFILE)/loadtest faults --write RELIABILITY.md $(ARGS)

takeovers: servers ## kills owners of partitions again and again: how long their partitions have no owner (root; ARGS="--kills 5")
	@scripts/install-servers faults
	$(BUILD_FAULTS)
	target/$(PROFILE)/loadtest takeovers --write RELIABILITY.md $(ARGS)

packages: ## lints what ships: Dockerfile, compose, unit, Helm chart, seccomp profile, workflows, scripts (BIN=target/demo/task-engine)
	@scripts/install-package-tools
	scripts/check-packages $(BIN)

book: ## the documents as one book in each language, in target/book
	@scripts/install-package-tools
	scripts/book

board: servers build-demo ## a minute's load on real servers, and the Grafana board drawn of what Prometheus scraped (ARGS="--workload mixed --seconds 90")
	scripts/draw-board $(ARGS)

deb: ## the Debian package and the archive, in target/package
	@scripts/install-package-tools
	$(CARGO) build --release --locked -p task-engine
	scripts/package $$(uname -m | sed s/aarch64/arm64/)

example-go: ## builds and tests examples/gateway-go, where Go is there
	@if command -v go >/dev/null; then cd examples/gateway-go && go vet ./... && go test ./...; \
	else echo "example-go: Go is not here, so examples/gateway-go was neither built nor tested"; fi

servers: ## installs nats-server, redis-server, mariadb-server, postgresql and etcd-server when missing; the current NATS into .servers/
	@scripts/install-servers
	@scripts/install-current-nats

clean: ## removes what was built
	$(CARGO) clean
