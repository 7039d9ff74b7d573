# What there is to do, and how. `make` alone lists it; `make check` is what CI runs.

CARGO ?= cargo
# For `make demo`, `make test` and `make bench`: passed on to the program or the test runner.
ARGS ?=
# For `make image`: the image it is built with, by its digest.
BUILD_IMAGE ?=

# Tools are pinned, built or fetched when first needed, and kept away from what the machine has.
MACHETE_VERSION := 0.9.2
DENY_VERSION := 0.20.2
CYCLONEDX_VERSION := 0.5.9
FUZZ_VERSION := 0.13.2
BUF_VERSION := 1.75.0
TOOLS := target/tools
MACHETE := $(TOOLS)/cargo-machete-$(MACHETE_VERSION)/bin/cargo-machete
DENY := $(TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
CYCLONEDX := $(TOOLS)/cargo-cyclonedx-$(CYCLONEDX_VERSION)/bin/cargo-cyclonedx
FUZZ := $(TOOLS)/cargo-fuzz-$(FUZZ_VERSION)/bin/cargo-fuzz
BUF := $(TOOLS)/buf-$(BUF_VERSION)/node_modules/.bin/buf
CLIENTS := target/clients

# In this order: what answers soonest comes first, what has to be fetched comes last.
CHECKS := format scripts alerts manifests lint docs test model check-image check-queries unused deny sbom proto fuzz

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: postgresql ## a private Postgres, the PingOne simulator and the server; unblocks a device (ARGS="--once": then ends)
	$(CARGO) run --locked --quiet -- demo $(ARGS)

.PHONY: test
test: postgresql ## all tests (ARGS: passed to the test runner)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked $${CI:+--profile ci} $(ARGS); \
	else \
		set -x; $(CARGO) test --locked --lib --bins --tests $(ARGS); \
	fi

.PHONY: model
model: ## the rules by which replicas share jobs, in every order of events (some ten million states, a minute)
	$(CARGO) test --locked --quiet --package pingone-unblock-model -- --nocapture

.PHONY: bench
bench: postgresql ## what it can do on this machine, some 35 min (ARGS="--quick", "--only drain,latency", "--write", "--help")
	$(CARGO) bench --locked --bench engine -- $(ARGS)

.PHONY: bench-scheduler
bench-scheduler: ## what deciding costs for each job, by criterion
	$(CARGO) bench --locked --bench scheduler

.PHONY: check
check: $(CHECKS) ## everything that must hold before a change goes in

.PHONY: checks
checks: # the names of the checks, for .ci/run
	@echo $(CHECKS)

.PHONY: image
image: ## the container image (BUILD_IMAGE=rust:1.94-slim-bookworm@sha256:… builds with that very one; needs Docker)
	DOCKER_BUILDKIT=1 docker build --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
		$(if $(BUILD_IMAGE),--build-arg BUILD_IMAGE=$(BUILD_IMAGE)) --tag pingone-unblock .

.PHONY: fmt
fmt: buf ## formats Rust and the contract
	$(CARGO) fmt --all
	@if [ -x $(BUF) ]; then $(BUF) format --write proto; fi

.PHONY: format
format: ## is the code formatted?
	$(CARGO) fmt --all --check

.PHONY: scripts
scripts: ## are the shell scripts well formed?
	@for script in scripts/*.sh; do echo "sh -n $$script"; sh -n "$$script" || exit 1; done
	bash -n .ci/run

.PHONY: alerts
alerts: ## are the alerts and recording rules well formed, and does each fire when it should, and only then?
	@programs=$$(scripts/ensure-prometheus.sh) && if [ -n "$$programs" ]; then cd observability/prometheus && set -x && \
		"$$programs/promtool" check rules rules/*.yml && \
		"$$programs/promtool" check config --syntax-only prometheus.yml && \
		"$$programs/promtool" test rules tests/*.yml; fi

.PHONY: manifests
manifests: ## are the Kubernetes manifests valid, and is what they promise true?
	@scripts/check-manifests.sh

.PHONY: check-image
check-image: ## does what the Dockerfile puts together run read-only, without rights, and find its authorities?
	@scripts/check-image.sh

.PHONY: lint
lint: ## clippy, warnings are errors
	$(CARGO) clippy --locked --all-targets -- -D warnings

.PHONY: docs
docs: ## the documentation and its examples, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	$(CARGO) test --locked --doc --quiet

.PHONY: queries
queries: postgresql ## writes the query metadata in .sqlx anew
	scripts/check-queries.sh --write

.PHONY: check-queries
check-queries: postgresql ## are the query metadata those of the queries?
	scripts/check-queries.sh --check

.PHONY: unused
unused: $(MACHETE) ## does a dependency stand unused in Cargo.toml?
	$(MACHETE) --skip-target-dir

.PHONY: deny
deny: $(DENY) ## licences, banned and doubled crates, sources; advisories where their database can be fetched
	$(DENY) --locked --log-level error check --hide-inclusion-graph licenses bans sources
	@if $(DENY) --locked fetch db >target/advisories.log 2>&1; then \
		set -x; $(DENY) --locked --log-level error check --hide-inclusion-graph --disable-fetch advisories; \
	else \
		echo "SKIPPED: advisories. Their database cannot be fetched from here (target/advisories.log)."; \
	fi

.PHONY: sbom
sbom: $(CYCLONEDX) ## what the program is built of, in CycloneDX: target/sbom/pingone-unblock.cdx.json, checked
	@scripts/sbom.sh $(CYCLONEDX)

# How long each fuzz target is run.
SECONDS ?= 60
.PHONY: fuzz
fuzz: $(FUZZ) ## looks for input that breaks what src/fuzz.rs claims (SECONDS=600 for each target: longer finds more)
	@scripts/fuzz.sh $(FUZZ) $(SECONDS)

.PHONY: proto
proto: buf ## lint and format of the contract; does it break the last release?
	@if [ -x $(BUF) ]; then scripts/check-proto.sh $(BUF); fi

.PHONY: clients
clients: ## the Python client's packages, in target/clients
	scripts/python-packages.sh tests/clients/python/requirements.txt $(CLIENTS)

.PHONY: ocsf
ocsf: ## OCSF's own schema for the test of `audit export`, in target/ocsf
	scripts/python-packages.sh tests/clients/ocsf/requirements.txt target/ocsf

.PHONY: otlp-receiver
otlp-receiver: ## the collector that the telemetry test sends to, in target/otlp-receiver
	scripts/otlp-receiver.sh

.PHONY: recording
recording: postgresql ## docs/bulk.svg for the README: a real bulk run in a terminal (needs Python)
	scripts/record-bulk.sh

.PHONY: pictures
pictures: postgresql ## docs/dashboards/*.png: what the dashboards show of a real run, some 5 min (needs Python)
	scripts/dashboard-pictures.sh

.PHONY: postgresql
postgresql: # its programs, from the system's package manager where they are missing
	@scripts/ensure-postgresql.sh

.PHONY: clean
clean: ## removes what was built, the tools too
	$(CARGO) clean

# Quick to build and quick enough to run: no optimisation.
$(MACHETE):
	$(CARGO) install --locked --debug --quiet --root $(TOOLS)/cargo-machete-$(MACHETE_VERSION) --version $(MACHETE_VERSION) cargo-machete

$(DENY):
	$(CARGO) install --locked --debug --quiet --root $(TOOLS)/cargo-deny-$(DENY_VERSION) --version $(DENY_VERSION) cargo-deny

$(CYCLONEDX):
	$(CARGO) install --locked --debug --quiet --root $(TOOLS)/cargo-cyclonedx-$(CYCLONEDX_VERSION) --version $(CYCLONEDX_VERSION) cargo-cyclonedx

$(FUZZ):
	$(CARGO) install --locked --debug --quiet --root $(TOOLS)/cargo-fuzz-$(FUZZ_VERSION) --version $(FUZZ_VERSION) cargo-fuzz

# buf has no crate; npm carries its program. CI must have it.
.PHONY: buf
buf:
	@if [ -x $(BUF) ]; then :; \
	elif command -v npm >/dev/null 2>&1; then \
		npm install --prefix $(TOOLS)/buf-$(BUF_VERSION) --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
			--loglevel=error @bufbuild/buf@$(BUF_VERSION); \
	elif [ -n "$${CI:-}" ]; then \
		echo "npm is missing: the contract cannot be checked." >&2; exit 1; \
	else \
		echo "SKIPPED: buf for the contract. It comes from npm, which is not installed."; \
	fi
