# `make` lists the targets. Everything else than Go, make and apt installs itself.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
PYTHON  ?= python3
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
IMAGE   ?= runqy-worker:$(VERSION)

# What the tests and the lint run, by the name of the program; scripts/install-tools knows the packages.
TEST_PROGRAMS := curl faketime gcc git ip python3 redis-server prometheus promtool prometheus-alertmanager initdb chromium systemd-analyze
E2E_PROGRAMS  := gcc python3 redis-server prometheus prometheus-alertmanager chromium
LINT_PROGRAMS := black git mypy promtool python3
BENCH_PROGRAMS := celery git python3 redis-server rq
HEALTH_PROGRAMS := $(BENCH_PROGRAMS) ip iptables mount

GOLANGCI_LINT := .cache/golangci-lint
# Of the version that tools/proto/go.mod pins; built on first use, half a minute, and kept by Go's cache.
BUF            = $(GO) tool -modfile=tools/proto/go.mod buf
RULES          = $(wildcard metrics/rules/*.yaml)
PACKAGES      ?= ./...
# Which packages begin first when all are tested, so that the longest neither begin last, when nothing runs beside them any
# more, nor together.
FIRST_PACKAGES := ./bench/... ./client ./cmd/... ./internal/... ./test/worker ./queue ./supervisor/... ./test/fleet
# Modules of their own whose tests `make test` runs too, unless it is asked for some packages of this one.
TEST_MODULES  := deploy/kubernetes/test
# Of one package: go test kills it then, with every stack.
TEST_TIMEOUT  ?= 10m
# How many packages are tested at once: they wait for other processes half of the time.
TEST_PACKAGES ?= $(shell expr 1 + $$(nproc))
FUZZ_TIME     ?= 20s
# Further flags of the health bench: -only 'redis-.*' for some cases, -peers '' for this worker alone.
HEALTH_FLAGS   ?=
# Workloads of the bench, a regular expression; empty: all. And the revision that is measured beside this one; empty: none.
BENCH          ?=
BENCH_BASELINE ?= fe82c54
BENCH_FLAGS     = -baseline '$(BENCH_BASELINE)' $(if $(BENCH),-only '$(BENCH)')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/runqy-worker
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/runqy-worker ./cmd/runqy-worker

.PHONY: demo
demo: ## the whole system on this machine, with nothing installed but Go and Python
	$(GO) run ./cmd/runqy-worker demo

# Without vet: make lint runs it, with more of its checks, and here it would compile everything a second time.
.PHONY: test
test: ## run every test under the race detector; installs what they need with apt; PACKAGES=./queue for some
	scripts/install-tools $(TEST_PROGRAMS)
	RUNQY_TEST_REQUIRE=1 $(PYTHON) scripts/run_tests.py $(if $(filter ./...,$(PACKAGES)),$(FIRST_PACKAGES:%=--first %) $(TEST_MODULES:%=--module %)) \
		--suite python:tests --suite scripts:tests -- \
		-race -vet=off -p $(TEST_PACKAGES) -timeout $(TEST_TIMEOUT) $(PACKAGES)

.PHONY: test-long
test-long: ## run the tests that take too long for every day, those named TestLong; at most 40 minutes
	scripts/install-tools $(TEST_PROGRAMS)
	RUNQY_TEST_REQUIRE=1 RUNQY_TEST_LONG=1 $(PYTHON) scripts/run_tests.py -- \
		-race -timeout 40m -run '^TestLong' $(PACKAGES)

.PHONY: e2e
e2e: ## test what is seen and told: dashboard, alerts and Grafana's queries, in Chromium, Prometheus and Alertmanager
	scripts/install-tools $(E2E_PROGRAMS)
	RUNQY_TEST_REQUIRE=1 $(PYTHON) scripts/run_tests.py -- \
		-race -timeout $(TEST_TIMEOUT) ./test/dashboard ./test/alerting

.PHONY: docker-test
docker-test: ## build the image and run deploy/compose.yaml on real containers; skipped where no Docker engine answers
	@if ! output=$$(docker version --format '{{.Server.Version}}' 2>&1); then \
		echo "docker-test: skipped: no Docker engine answers:" $$output; exit 0; fi; \
	echo "docker-test: this takes some minutes; a test says how it went when it ends"; \
	set -x; \
	scripts/install-tools docker-compose; \
	RUNQY_TEST_DOCKER=1 $(GO) test -count=1 -v -timeout 60m ./test/docker

.PHONY: generate
generate: ## generate docs/metrics.md, docs/configuration.md, Grafana's dashboard, the PrometheusRule and the Go code of proto/
	$(PYTHON) deploy/grafana/dashboard.py >deploy/grafana/dashboards/runqy-worker.json
	$(GO) run ./internal/cmd/gendocs
	$(GO) test ./metrics -run '^TestPrometheusRule' -update
	$(BUF) generate --template proto/buf.gen.yaml proto

.PHONY: fuzz
fuzz: ## fuzz each target for FUZZ_TIME (20s)
	@$(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' $(PACKAGES) | while read -r package; do \
		$(GO) test -list '^Fuzz' "$$package" | { grep '^Fuzz' || true; } | while read -r target; do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_TIME) "$$package" </dev/null; \
		done; \
	done

.PHONY: screenshots
screenshots: ## take the pictures of docs/dashboard.md, of real workers under load, after 15 minutes of it
	scripts/install-tools python3 redis-server chromium
	RUNQY_TEST_REQUIRE=1 RUNQY_SCREENSHOTS=$(CURDIR)/docs/images $(GO) test -run '^TestDashboardScreenshots$$' -v -timeout 40m ./test/dashboard

.PHONY: bench
bench: ## measure this worker beside other queue systems, in about 40 minutes; writes docs/benchmarks.md. BENCH=noop for some workloads
	scripts/install-tools $(BENCH_PROGRAMS)
	$(GO) run ./bench $(BENCH_FLAGS)

.PHONY: bench-quick
bench-quick: ## the same with one round and few tasks, in 3 minutes, and prints it
	scripts/install-tools $(BENCH_PROGRAMS)
	$(GO) run ./bench -quick $(BENCH_FLAGS)

.PHONY: benchstat
benchstat: ## compare the Go benchmarks of the hot paths with those of BENCH_BASELINE, in 10 minutes
	scripts/install-tools redis-server
	scripts/benchstat $(BENCH_BASELINE)

.PHONY: health-bench
health-bench: ## break what a worker needs and see what it says, beside other systems, in 15 minutes; writes docs/health-benchmark.md
	scripts/install-tools $(HEALTH_PROGRAMS)
	$(GO) run ./bench/health $(HEALTH_FLAGS)

.PHONY: lint
lint: $(GOLANGCI_LINT) ## run golangci-lint and check modules, formatting, alert rules and scripts
	scripts/install-tools $(LINT_PROGRAMS)
	@unformatted=$$(git ls-files -z -- '*.go' | xargs -0 -r gofmt -l); \
		if [ -n "$$unformatted" ]; then echo "gofmt -w would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) mod tidy -diff
	$(GO) mod tidy -C tools -diff
	$(GO) mod tidy -C tools/proto -diff
	for module in $(TEST_MODULES); do $(GO) mod tidy -C "$$module" -diff; done
	$(GOLANGCI_LINT) run ./...
	for module in $(TEST_MODULES); do (cd "$$module" && $(CURDIR)/$(GOLANGCI_LINT) run ./...); done
	$(BUF) lint proto
	@rm -rf .cache/generated && $(BUF) generate --template proto/buf.gen.yaml --output .cache/generated proto
	@diff -r --exclude='buf*' --exclude='*.proto' proto .cache/generated/proto || \
		{ echo "the generated code is not that of the .proto files: make generate"; exit 1; }
	promtool check rules $(RULES)
	$(PYTHON) scripts/check_words.py
	PYTHONPYCACHEPREFIX=.cache/pycache $(PYTHON) -W error -m compileall -q $$(git ls-files -- '*.py')
	@black --quiet --check --diff $$(git ls-files -- '*.py') || { echo "black . would make these changes"; exit 1; }
	mypy python/runqy scripts/run_tests.py
	for script in .ci/run scripts/benchstat scripts/docker-bases scripts/install-tools; do bash -n "$$script"; done

# Built from the version that tools/go.mod pins; about a minute, once.
$(GOLANGCI_LINT): tools/go.mod tools/go.sum
	$(GO) build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: image
image: ## build the container image, IMAGE=runqy-worker:<version>
	docker build --build-arg VERSION=$(VERSION) --tag $(IMAGE) .

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist .cache
