# LabLink. `make help` lists what can be made.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X lablink/internal/cli.Version=$(VERSION)

# Checkers are built from tools/go.mod, once per version of Go: a linter built
# by an older Go cannot read the packages of a newer one.
TOOLS_DIR := .tools/$(shell go env GOVERSION)
GOLANGCI_LINT := $(TOOLS_DIR)/golangci-lint
GOVULNCHECK := $(TOOLS_DIR)/govulncheck

GO_DIRS := $(wildcard cmd internal deploy)
SHELL_SCRIPTS = $(shell grep -rlIE '^.!/(usr/)?bin/(env )?(ba|da)?sh' \
	--exclude='*.go' --exclude='*.md' --exclude='*.txt' --exclude='*.txtar' \
	.ci scripts $(GO_DIRS))

ARGS ?=
TESTFLAGS ?=

.PHONY: help
help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: deps
deps: ## Install what is missing: PostgreSQL, Chromium, a C compiler, curl, moto, shellcheck; build OpenTofu if there is no Terraform
	@scripts/install-deps postgresql chromium cc curl terraform moto shellcheck

.PHONY: build
build: ## Build bin/lablink
	go build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: logproc
logproc: ## Build the log processor for AWS Lambda: bin/lablink-logproc-arm64.zip and -amd64.zip
	go run ./internal/lambdazip -o bin

.PHONY: demo
demo: build ## Show LabLink at work on this machine (ARGS=--once plays a participant, then ends)
	@scripts/install-deps postgresql terraform
	@bin/lablink demo $(ARGS)

.PHONY: test
test: ## Run all tests (TESTFLAGS='-run Name -v' chooses)
	@scripts/install-deps postgresql chromium cc curl terraform moto shellcheck
	go test -race -timeout 15m $(TESTFLAGS) ./...

.PHONY: test-aws
test-aws: ## Run the tests of the provider aws with Terraform's real one, which the others only imitate
	@scripts/install-deps postgresql cc terraform moto
	@scripts/aws-provider
	TF_CLI_CONFIG_FILE='$(CURDIR)/.tools/aws-provider/terraformrc' LABLINK_TEST_AWS_PROVIDER=real \
		go test -race -timeout 30m -run AWS $(TESTFLAGS) ./internal/awsfleet/... ./internal/jobs/...

.PHONY: check
check: $(GOLANGCI_LINT) ## Check format, vet, lint, module files and shell scripts
	@unformatted=$$(gofmt -l $(GO_DIRS)) && \
	if [ -n "$$unformatted" ]; then echo "run make fmt; not formatted:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	go mod tidy -diff
	@scripts/install-deps shellcheck
	shellcheck $(SHELL_SCRIPTS)

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the Go files, group their imports
	$(GOLANGCI_LINT) fmt ./...

.PHONY: bench
bench: ## Measure, each number beside the least that this machine can do
	@scripts/install-deps postgresql terraform
	go test ./internal/bench/... -run '^$$' -bench . -benchtime=1x -timeout 30m $(TESTFLAGS)

.PHONY: docs
docs: ## Check the pages and pictures of docs/ (TESTFLAGS=-update writes what is generated)
	@scripts/install-deps postgresql terraform
	go test ./internal/diagram ./internal/docs $(TESTFLAGS)

.PHONY: vuln
vuln: $(GOVULNCHECK) ## Look for known vulnerabilities (fetches their database)
	$(GOVULNCHECK) ./...

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin .tools

$(GOLANGCI_LINT): tools/go.mod tools/go.sum
	@echo "building golangci-lint (once: a minute or two)"
	@go build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(GOVULNCHECK): tools/go.mod tools/go.sum
	@go build -C tools -o ../$@ golang.org/x/vuln/cmd/govulncheck
