# Aisle. `make help` lists the targets; the README says what they show.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export GOTOOLCHAIN ?= auto
export CGO_ENABLED := 1
AISLE_DATA ?= ../shared/data
export AISLE_DATA
TEST_FLAGS ?=
BENCH_FLAGS ?=
CHAOS_FLAGS ?=

# The tag with which pictures are read by libjpeg-turbo; empty where it is not
# installed. Asked anew by each recipe, since prerequisites may have brought it.
TURBO = $(shell sh hack/turbo.sh)
# Kustomize loads Go plugins unless told otherwise, and a program that does keeps
# all its methods and symbols: 97 MB instead of 74, 30 of them in memory at rest;
# and libjpeg-turbo cannot be linked into it statically.
TAGS = kustomize_disable_go_plugin_support $(TURBO)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## set up, categorise sample products, show the pods stop, serve until Ctrl-C (ONCE=1: end by itself; ADDR=host:port)
	@bin/aisle demo $(if $(filter-out 0 no false,$(ONCE)),--once) $(if $(ADDR),--addr $(ADDR))

.PHONY: test
test: check build ## set up and run every test (begins with check), on a cluster too where one can be up at once (E2E=1: or built; E2E=0: not)
	@$(MAKE) --no-print-directory python || echo "NOT TESTED: aisle_model and the Python examples, which need what could not be installed (see above)"
	go test -race -timeout 20m -tags "$(TAGS)" $(TEST_FLAGS) ./...
	$(if $(TURBO),go test -race $(TEST_FLAGS) ./internal/imaging ./models  # as where libjpeg-turbo is not installed)
	go -C hack/images test $(TEST_FLAGS) ./...
	go -C hack/openapi test $(TEST_FLAGS) ./...
	go -C hack/cluster test $(TEST_FLAGS) .
	@$(MAKE) --no-print-directory test-cluster

# The acceptance suite on a cluster alone: `go test ./...` runs it on one machine.
.PHONY: test-cluster
test-cluster: cluster-build
	@case "$(E2E)" in \
	  1) why= ;; \
	  0) why="E2E=0" ;; \
	  *) why=$$($(CLUSTER) ready 2>&1) || true ;; \
	esac; \
	if [ -n "$$why" ]; then \
	  echo "================================================================"; \
	  echo "All tests passed that need no cluster. NOT TESTED ON A CLUSTER: $${why#cluster: }"; \
	else \
	  CGO_ENABLED=0 go -C hack/cluster test -trimpath $(TEST_FLAGS) ./components/ingress; \
	  $(CLUSTER) -cluster-only e2e; \
	  echo "All tests passed, the acceptance suite on one machine and on a cluster."; \
	fi

.PHONY: build
build: prerequisites ## compile into bin/, with ONNX Runtime beside the binaries
	@mkdir -p bin
	go build -tags "$(TAGS)" -trimpath -ldflags=-s -o bin/ ./cmd/aisle ./functions/...
	@go run ./hack/onnxruntime -o bin/libonnxruntime.so.1

.PHONY: check
# Of hack/cluster only the program itself: what is below it compiles all of Kubernetes.
check: prerequisites ## gofmt, vet, staticcheck
	@out=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); if [ -n "$$out" ]; then echo "gofmt -w these files:"; echo "$$out"; exit 1; fi
	go vet -tags "$(TAGS)" ./...
	go -C hack/images vet ./...
	go -C hack/openapi vet ./...
	go -C hack/cluster vet .
	$$(go -C hack/tools tool -n staticcheck) -tags "$(TAGS)" ./...
	cd hack/images; $$(go -C ../tools tool -n staticcheck) ./...
	cd hack/cluster; $$(go -C ../tools tool -n staticcheck) .

.PHONY: gpu-check
gpu-check: build ## hold the classifiers' answers on a GPU against the CPU's, and measure starts and rates (without a GPU: says so, and fails)
	@go build -o bin/gpucheck ./hack/gpucheck
	@bin/gpucheck

.PHONY: bench
bench: build ## measure the README's figures (programs with committed inputs; ratio, median and spread)
	go run -tags "$(TAGS)" ./hack/bench $(BENCH_FLAGS)

.PHONY: bench-cluster
bench-cluster: build cluster-build ## measure the figures of a cluster, on the test cluster (starts it; root; KEEP=1 leaves it up)
	@$(CLUSTER) up; status=0; $(CLUSTER) -run TestComposer e2e && go run ./hack/bench -cluster $(BENCH_FLAGS) || status=$$?; \
	[ -n "$(KEEP)" ] || $(CLUSTER) down; exit $$status

.PHONY: replay
replay: prerequisites ## replay three days' traces under five ways to scale and a gate, on virtual time, and write docs/replay.* (seconds)
	go run ./hack/replay -out docs

# The tag lets the engine die between writing a result and acknowledging its event.
.PHONY: chaos
chaos: build ## send 200,000 events while classifiers, composer and engine are killed, and count what became of each (CHAOS_FLAGS)
	go run -tags failpoint ./hack/chaos $(CHAOS_FLAGS)

.PHONY: soak
soak: build ## the same with 1,000,000 events (hours)
	go run -tags failpoint ./hack/chaos -events 1000000 $(CHAOS_FLAGS)

# What the recipes and the Python examples run in: python/requirements.txt, 0.9 GB in the user's cache.
.PHONY: python
python: ## make the Python environment of the examples (.cache/python links to it)
	@python=$$(python/venv.sh) && mkdir -p .cache && ln -sfn "$${python%/bin/python}" .cache/python

.PHONY: test-recipes
test-recipes: build python ## train and serve the examples that need PyTorch, and run other projects' clients (Triton's, MLflow) against serving
	examples/transformer/train.sh
	AISLE_RECIPES=1 go test -count=1 -v -timeout 30m $(TEST_FLAGS) ./python ./examples ./test/recipes

.PHONY: models
models: build ## train both model packages again from AISLE_DATA (installs PyTorch, 6 GB; an hour)
	models/train.sh

# A real Kubernetes with a real Knative on this machine, for tests. It is a
# module of its own, so that what it needs never changes what Aisle is built with.
# CONTAINERD=2: with a containerd that mounts image volumes, which is built, not Debian's.
CLUSTER = bin/cluster -module hack/cluster $(if $(filter 2,$(CONTAINERD)),-containerd2)
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
e2e: cluster-build ## run the acceptance suite on one machine and on a cluster, and compare (KEEP=1 leaves it up; CONTAINERD=2 mounts image volumes)
	@$(CLUSTER) -run '$(or $(RUN),.)' $(if $(KEEP),-keep) $(if $(filter command line,$(origin KUBECONFIG)), \
	  -kubeconfig '$(KUBECONFIG)' -registry '$(REGISTRY)' -gateway '$(GATEWAY)' -domain '$(DOMAIN)') e2e

.PHONY: cluster-faults
cluster-faults: ## kill the cluster's harness at each of its steps, and start it again (root; a quarter of an hour)
	AISLE_CLUSTER_FAULTS=1 go -C hack/cluster test -count=1 -v -timeout 60m -run '^TestKilled$(if $(RUN),$$/$(RUN))' .

# Reproducible: the same commit, Go, C compiler and libraries give the same digests.
IMAGES ?= .cache/images
PUSH ?=
.PHONY: images
images: prerequisites ## make the container images: an OCI layout in IMAGES, or push them (PUSH=registry/prefix)
	go -C hack/images run . -root "$(CURDIR)" -out "$(IMAGES)" $(if $(PUSH),-push "$(PUSH)")

# What controller-gen makes of internal/scaling; a test says when it is not current.
.PHONY: generate
generate: ## make the ScalingSchedule's CRD and deep copies from its Go types
	$$(go -C hack/tools tool -n controller-gen) object paths=./internal/scaling
	$$(go -C hack/tools tool -n controller-gen) crd paths=./internal/scaling output:crd:stdout > manifests/controller/crd.yaml

.PHONY: clean
clean: ## remove what was built here (not the caches of go, npm and ONNX Runtime)
	rm -rf bin .cache

# Prerequisites are few; what is missing is named, with the command that brings it.
# libjpeg-turbo is the one that can be done without.
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
	if [ -z "$$(sh hack/turbo.sh)" ]; then \
	  echo "libjpeg-turbo is not installed: without it photos are read by Go, which takes longer   (on Debian: apt-get install libjpeg-dev)" >&2; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then { timeout 60 apt-get update -q && DEBIAN_FRONTEND=noninteractive timeout 120 apt-get install -y -q libjpeg-dev; } || echo "going on without libjpeg-turbo" >&2; fi; \
	fi; \
	case "$$(uname -sm)" in "Linux x86_64") ;; *) echo "Aisle runs on Linux x86_64 for now, not on $$(uname -sm): ONNX Runtime is pinned for that alone" >&2; exit 1;; esac
