# Aisle. `make help` lists the targets; the README says what they show.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The unit of GOFLAGS is here so that every target builds alike, whatever the caller's environment says.
export GOTOOLCHAIN ?= auto
export CGO_ENABLED := 1
AISLE_DATA ?= ../shared/data
export AISLE_DATA
TEST_FLAGS ?=
BENCH_FLAGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## set up, categorise sample products, show the pods stop, serve until Ctrl-C (ONCE=1: end by itself; ADDR=host:port)
	@bin/aisle demo $(if $(filter-out 0 no false,$(ONCE)),--once) $(if $(ADDR),--addr $(ADDR))

.PHONY: test
test: check build ## set up and run every test (begins with check)
	go test -race -timeout 20m $(TEST_FLAGS) ./...
	go -C hack/images vet ./...
	go -C hack/images test $(TEST_FLAGS) ./...

.PHONY: build
build: prerequisites ## compile into bin/, with ONNX Runtime beside the binaries
	@mkdir -p bin
	go build -trimpath -ldflags=-s -o bin/ ./cmd/aisle ./functions/...
	@go run ./hack/onnxruntime -o bin/libonnxruntime.so.1

.PHONY: check
check: prerequisites ## gofmt, vet, staticcheck
	@out=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); if [ -n "$$out" ]; then echo "gofmt -w these files:"; echo "$$out"; exit 1; fi
	go vet ./...
	$$(go -C hack/tools tool -n staticcheck) ./...

.PHONY: bench
bench: build ## measure the README's figures (programs with committed inputs; ratio, median and spread)
	go run ./hack/bench $(BENCH_FLAGS)

.PHONY: models
models: build ## train both model packages again from AISLE_DATA (installs PyTorch, 6 GB; an hour)
	models/train.sh

# A real Kubernetes with a real Knative on this machine, for tests. It is a
# module of its own, so that what it needs never changes what Aisle is built with.
CLUSTER = bin/cluster -module hack/cluster
.PHONY: cluster-build
cluster-build:
	@mkdir -p bin
	@go -C hack/cluster build -trimpath -o ../../bin/cluster .

.PHONY: cluster-up
cluster-up: cluster-build ## start a one-node Kubernetes with Knative for tests (root; builds it first)
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: cluster-build ## end it and leave nothing of it behind
	@$(CLUSTER) down

.PHONY: cluster-status
cluster-status: cluster-build ## say how it stands
	@$(CLUSTER) status

# Against a cluster that is there: KUBECONFIG= REGISTRY= GATEWAY= DOMAIN=. Given
# on make's command line only: an exported KUBECONFIG is not meant for this.
.PHONY: e2e
e2e: cluster-build ## run the acceptance suite on one machine and on a cluster, and compare (KEEP=1 leaves it up)
	@if [ "$(origin KUBECONFIG)" = "command line" ]; then \
	  $(CLUSTER) -kubeconfig '$(KUBECONFIG)' -registry '$(REGISTRY)' -gateway '$(GATEWAY)' -domain '$(DOMAIN)' e2e; \
	else \
	  $(CLUSTER) up; status=0; $(CLUSTER) -run '$(or $(RUN),.)' e2e || status=$$?; \
	  [ -n "$(KEEP)" ] || $(CLUSTER) down; exit $$status; \
	fi

# Reproducible: the same commit, Go, C compiler and libraries give the same digests.
IMAGES ?= .cache/images
PUSH ?=
.PHONY: images
images: prerequisites ## make the container images: an OCI layout in IMAGES, or push them (PUSH=registry/prefix)
	go -C hack/images run . -root "$(CURDIR)" -out "$(IMAGES)" $(if $(PUSH),-push "$(PUSH)")

.PHONY: clean
clean: ## remove what was built here (not the caches of go, npm and ONNX Runtime)
	rm -rf bin .cache

# Prerequisites are few; what is missing is named, with the command that brings it.
.PHONY: prerequisites
prerequisites:
	@missing=; \
	command -v go  >/dev/null || missing+=" golang-go"; \
	command -v gcc >/dev/null || missing+=" gcc libc6-dev"; \
	command -v npm >/dev/null || python3 -m pip --version >/dev/null 2>&1 || missing+=" npm"; \
	if [ -n "$$missing" ]; then \
	  echo "missing:$$missing   (on Debian: apt-get install$$missing)" >&2; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q $$missing; else exit 1; fi; \
	fi; \
	case "$$(uname -sm)" in "Linux x86_64") ;; *) echo "Aisle runs on Linux x86_64 for now, not on $$(uname -sm): ONNX Runtime is pinned for that alone" >&2; exit 1;; esac
