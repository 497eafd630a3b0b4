# `make` alone lists the targets. Every target that starts something real (the
# lab, namespaces) needs root and says so before it does anything.

SHELL := /bin/bash
# For every go command alike, the build of the Kubernetes programs among them:
# what differs in this flag is compiled twice.
export GOFLAGS := -trimpath $(GOFLAGS)
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Flags of `lab up`, e.g. make lab-up LAB_FLAGS='--nodes 3 --dual-stack'.
LAB_FLAGS ?=
# OVERLAND=1: `make lab-up` also installs Overland and links the clusters.
OVERLAND ?=
# What `make e2e` and `make bench` run, as a pattern of names: RUN=Identity.
RUN ?=
# How long `make fuzz` spends on each fuzz target.
FUZZTIME ?= 10s
# Packages with goroutines: `make race` tests them, and `make unit` the others.
RACE_PACKAGES := ./cmd/... $(addprefix ./pkg/,admin/... agent attach cni/... connect dataplane/... federation node source store) \
  $(addprefix ./test/lab/,. daemon fabric kubebin kubeclient kubelet/... netprobe ns rootcheck runtime)
# Unit tests: everything that does not bring a whole lab up. They are never taken
# from the cache: go does not know that they look at the kernel and at go list.
LIST_UNIT = go list ./... | grep -Ev '/test/(e2e|bench)(/|$$)' | sort
UNIT_PACKAGES = $$(comm -23 <($(LIST_UNIT)) <(go list $(RACE_PACKAGES) | sort))

E2E_TIMEOUT ?= 40m
# How many pods `make test-long` starts to see whether a packet precedes policy.
CNI_PODS ?= 200
# How many random worlds `make test-long` puts into both clusters of a lab.
WORLDS ?= 200
BENCH_TIMEOUT ?= 20m

# The linters' versions are those of .ci/tools/go.mod.
TOOL := go tool -modfile=.ci/tools/go.mod
# ST1000 is left to test/deps, which asks more of a package's doc comment.
STATICCHECK_CHECKS := all,-ST1000
SCRIPTS := .ci/run .ci/fuzz .ci/install-packages

# Each stage tells when it began, counted from the start of make or of .ci/run.
ifndef STARTED
STARTED := $(shell date +%s)
endif
stage = @echo "== +$$(( $$(date +%s) - $(STARTED) )) s: $(1)"

.PHONY: help
help: ## list the targets
	@echo 'Targets (those marked * need root):'
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

.PHONY: root
root:
	@if [[ $$(uname -s) != Linux ]]; then echo 'make $(MAKECMDGOALS): needs Linux: the lab and its tests are made of its namespaces' >&2; exit 1; fi
	@if [[ $$(id -u) != 0 ]]; then echo 'make $(MAKECMDGOALS): needs root: the lab and its tests are made of namespaces' >&2; exit 1; fi

# What a fresh machine lacks; nothing, and quickly, when all is there.
.PHONY: packages
packages: root
	@.ci/install-packages

# What is generated from the API types: $(call generate,FOLDER OF GO,FOLDER OF CRDS).
API_TYPES := pkg/api/v1alpha1
CRDS := manifests/base/crds
generate = $(TOOL) controller-gen object crd paths=./$(API_TYPES) output:object:dir=$(1) output:crd:dir=$(2)

.PHONY: generate
generate: ## generate deep copies and CRDs from the API types
	$(call stage,generate)
	$(call generate,$(API_TYPES),$(CRDS))

# Generated anew beside the tree, so that it may have changes of any kind.
.PHONY: generate-check
generate-check: ## check that what is generated is what `make generate` makes
	$(call stage,generate-check)
	@new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	  $(call generate,"$$new","$$new/crds"); \
	  if ! diff -u $(API_TYPES)/zz_generated.deepcopy.go "$$new/zz_generated.deepcopy.go" >&2 || ! diff -ru $(CRDS) "$$new/crds" >&2; then \
	    echo 'generated files are not those of the API types: run `make generate`' >&2; exit 1; \
	  fi

# The CNI plugin runs on the node itself, whose C library is not known, and is
# started for every pod: it is static, and without what only a debugger needs.
.PHONY: build
build: ## build the programs into bin/
	$(call stage,build)
	@mkdir -p bin
	go build -o bin/ $(filter-out ./cmd/overland-cni,$(wildcard ./cmd/*)) ./test/lab
	CGO_ENABLED=0 go build -ldflags '-s -w' -o bin/ ./cmd/overland-cni

.PHONY: kube
kube: build ## build the Kubernetes programs into the user's cache (minutes, once a version)
	$(call stage,kube)
	bin/lab build-kube

.PHONY: lab-up
lab-up: packages build kube ## * start the lab (LAB_FLAGS='--nodes 3 --dual-stack'; OVERLAND=1 installs Overland, links)
	bin/lab up $(LAB_FLAGS)
	$(if $(OVERLAND),bin/lab overland)

.PHONY: lab-down
lab-down: root build ## * end the lab and remove all that is left of it
	bin/lab down

.PHONY: test
test: packages lint unit race e2e ## * lint, unit, race and e2e: what a change must pass

.PHONY: lint
lint: generate-check ## go vet, staticcheck, errcheck, gofumpt, shellcheck, generated files
	$(call stage,lint)
	go vet ./...
	$(TOOL) staticcheck -checks '$(STATICCHECK_CHECKS)' ./...
	$(TOOL) errcheck ./...
	@files=$$($(TOOL) gofumpt -l .); if [[ -n $$files ]]; then printf 'gofumpt would change:\n%s\n' "$$files" >&2; exit 1; fi
	shellcheck $(SCRIPTS)

.PHONY: lint-kube
lint-kube: ## go vet of the Kubernetes module (as slow as `make kube` unless that was just built)
	$(call stage,lint-kube)
	go -C test/lab/kube vet -trimpath ./...

.PHONY: unit
unit: root ## * tests beside the code, of packages without goroutines
	$(call stage,unit)
	go test -count=1 -vet=off $(UNIT_PACKAGES)

# The pause at exit, a second for each of the many processes that tests start,
# is for reports that goroutines are still writing; ours are over by then.
.PHONY: race
race: root ## * tests beside the code, of packages with goroutines, under the race detector
	$(call stage,race)
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 go test -count=1 -vet=off -race $(RACE_PACKAGES)

.PHONY: e2e
e2e: root build kube ## * end-to-end tests in a lab of their own
	$(call stage,e2e)
	OVERLAND_LAB_PROGRAM=$(CURDIR)/bin/lab go test ./test/e2e/... $(if $(RUN),-run '$(RUN)') -p 1 -count=1 -vet=off -timeout $(E2E_TIMEOUT)

.PHONY: bench
bench: packages build kube ## * benchmarks: every figure that the documentation claims
	$(call stage,bench)
	OVERLAND_LAB_PROGRAM=$(CURDIR)/bin/lab go test -run '^$$' -bench '$(or $(RUN),.)' -benchtime=1x -timeout $(BENCH_TIMEOUT) ./test/bench/...

.PHONY: fuzz
fuzz: root ## * every fuzz target for FUZZTIME (10s) each
	$(call stage,fuzz)
	.ci/fuzz $(FUZZTIME)

.PHONY: test-long
test-long: test lint-kube ## * test, then the slow ones: unit tests 5 times in random order, random worlds, each fuzz target for a minute
	$(call stage,unit tests in random order)
	go test -count=5 -shuffle=on -timeout 60m $$($(LIST_UNIT))
	$(call stage,random worlds)
	seed=$$RANDOM; echo "OVERLAND_E2E_SEED=$$seed"; OVERLAND_E2E_SEED=$$seed OVERLAND_E2E_WORLDS=$(WORLDS) OVERLAND_LAB_PROGRAM=$(CURDIR)/bin/lab \
	  go test ./test/e2e/policy -run Random -count=1 -vet=off -timeout 60m
	$(call stage,first packets of many pods)
	OVERLAND_E2E_CNI_PODS=$(CNI_PODS) OVERLAND_LAB_PROGRAM=$(CURDIR)/bin/lab \
	  go test ./test/e2e/cni -run CNINoPacketPassesBeforePolicy -count=1 -vet=off -timeout 60m
	$(call stage,fuzz)
	.ci/fuzz 60s

.PHONY: clean
clean: ## remove what was built (not the cached Kubernetes programs, not a running lab)
	rm -rf bin
