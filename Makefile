# The one vocabulary of people and CI. `make` alone prints it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ENV ?= kind
CACHE := $(or $(HOUSE_CACHE_DIR),$(if $(filter 0,$(shell id -u)),/var/cache/house-platform,$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/house-platform))
UV_VERSION := 0.13.9
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
PYTHON := .venv/bin/python
MEMBERS := core pipeline predictor ui datasource
PYTEST := $(PYTHON) -m pytest -q

.PHONY: help
help: ## print this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z0-9-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The whole loop
.PHONY: up down demo run drain status pages smoke lineage
up: .venv/ready ## from an empty machine to a price: cluster, images, platform, pipeline run, prediction
	@$(PYTHON) -m ci.up --env $(ENV)

down: .venv/ready ## remove the platform with its data, and the cluster that `make up` made
	@$(PYTHON) -m ci.cluster down

demo: .venv/ready ## the same loop without Kubernetes, in one terminal (ends with Ctrl-C)
	@$(PYTHON) -m ci.demo

run: .venv/ready ## one pipeline run on the cluster: fetch the next batch, decide, train, promote
	@$(PYTHON) -m ci.runs

drain: .venv/ready ## pipeline runs until the data API has no more data
	@$(PYTHON) -m ci.runs --drain

status: .venv/ready ## every pod, and why those that are not Ready are not
	@$(PYTHON) -m ci.platform status

pages: .venv/ready ## addresses of all pages
	@$(PYTHON) -m ci.platform pages

smoke: .venv/ready ## a one-tree model's whole way through MLflow, from a pod like a stage's; each step told
	@$(PYTHON) -m ci.commands smoke

lineage: .venv/ready ## where a model version comes from: run, code, image, batches, decision, verdict, report: VERSION=3
	@$(PYTHON) -m ci.commands lineage --version "$(VERSION)"

##@ Steps
.PHONY: setup k3s cluster cluster-stop cluster-start cluster-down images secrets install remove
setup: .venv/ready ## Python environment of the checkout, from the lock

k3s: ## K3s on this machine, with the settings of ci/k3s (as root)
	ci/k3s/up.sh

cluster: .venv/ready ## a Kubernetes cluster: CLUSTER=current, kind, or onenode (chosen if not named)
	@$(PYTHON) -m ci.cluster up

cluster-stop: .venv/ready ## stop the one-node cluster, keep its data
	@$(PYTHON) -m ci.cluster stop

cluster-start: .venv/ready ## start the one-node cluster again
	@$(PYTHON) -m ci.cluster start

cluster-down: .venv/ready ## remove the cluster and all its data; caches stay
	@$(PYTHON) -m ci.cluster down

images: .venv/ready ## build every image whose inputs changed; write values/images-<env>.yaml
	@$(PYTHON) -m ci.images build --env $(ENV)

secrets: .venv/ready ## namespaces and Secrets, each made once and never changed
	@$(PYTHON) -m ci.secrets

install: .venv/ready ## install or upgrade the umbrella chart on the present cluster
	@$(PYTHON) -m ci.platform install --env $(ENV)

remove: .venv/ready ## remove the platform with its data from the present cluster
	@$(PYTHON) -m ci.platform remove

##@ With Argo CD
.PHONY: gitops gitops-push gitops-status gitops-to-helm gitops-remove
gitops: .venv/ready ## deliver with Argo CD: install it, give it this checkout (CLUSTER=current: the repository), wait for all
	@$(PYTHON) -m ci.argocd up --env $(ENV)

gitops-push: .venv/ready ## a delivery: serve the checkout's HEAD to Argo CD and wait until the cluster is as it says
	@$(PYTHON) -m ci.argocd push --env $(ENV)

gitops-status: .venv/ready ## every Application: sync, health, last operation, revision
	@$(PYTHON) -m ci.argocd status

gitops-to-helm: .venv/ready ## hand the running platform to Helm (make gitops takes it over from Helm): no pod is touched
	@$(PYTHON) -m ci.argocd to-helm --env $(ENV)

gitops-remove: .venv/ready ## remove Applications and Argo CD; data stays until `make remove`
	@$(PYTHON) -m ci.argocd remove

##@ Releases
.PHONY: promote-env bundle bundle-install push publish publish-join publish-names publish-mirror release scan notes charts
bundle: .venv/ready ## one file that installs ENV where no registry is reached: images, charts, installer, doctor (ARGS="--set ...")
	@$(PYTHON) -m ci.bundle --env $(ENV) $(ARGS)

bundle-install: ## unpack the newest bundle of ENV and run its installer (as root; ARGS="--argocd ...")
	@bundle=$$(ls -t build/house-platform-*-$(ENV).tar.{zst,gz} 2>/dev/null | head -1 || true); \
	if [ -z "$$bundle" ]; then echo "build/ has no bundle of $(ENV): write one by \`make bundle ENV=$(ENV)\`" >&2; exit 1; fi; \
	rm -rf build/unpacked && mkdir -p build/unpacked && tar -xf "$$bundle" -C build/unpacked
	build/unpacked/*/install.sh $(ARGS)

push: .venv/ready ## copy the images of ENV to a registry, digests unchanged: REGISTRY=registry.example/house
	@$(PYTHON) -m ci.bundle.push --env $(ENV) --registry "$(REGISTRY)"

publish: .venv/ready ## build and push what REGISTRY lacks of the images, for this machine's architecture
	@$(PYTHON) -m ci.images.publish push --registry "$(REGISTRY)"

publish-join: .venv/ready ## give the published images of all architectures one name, and write their bills of materials
	@$(PYTHON) -m ci.images.publish join --registry "$(REGISTRY)"
	@$(PYTHON) -m ci.images.publish bills --registry "$(REGISTRY)"

publish-names: .venv/ready ## JSON of the published images that ENV does not name yet
	@$(PYTHON) -m ci.images.publish names --registry "$(REGISTRY)" --env $(ENV)

publish-mirror: .venv/ready ## the published images in a second registry too, digests unchanged: MIRROR=docker.io/name
	@$(PYTHON) -m ci.images.publish mirror --registry "$(REGISTRY)" --to "$(MIRROR)"

scan: .venv/ready ## known vulnerabilities of what bills of materials list: a report (needs Go and the internet; BILLS=...)
	@$(PYTHON) -m ci.scan $(or $(BILLS),build/sbom/*.cdx.json)

release: .venv/ready ## a commit that gives ENV the published images of this checkout
	@$(PYTHON) -m ci.release write --env $(ENV) --published --commit

notes: .venv/ready ## release notes of VERSION, from CHANGELOG.md
	@$(PYTHON) -m ci.notes "$(VERSION)"

charts: .venv/ready ## package every chart into build/charts, and push them to REGISTRY if it is given (OCI)
	@$(PYTHON) -m ci.charts package $(if $(REGISTRY),--registry "$(REGISTRY)")

promote-env: .venv/ready ## give an environment the images of another: FROM=vm TO=prod, COMMIT=1 to commit it
	@$(PYTHON) -m ci.release promote --from "$(FROM)" --to "$(TO)" $(if $(COMMIT),--commit)

##@ Checks
.PHONY: doctor test lint types unit services contract go e2e e2e-gitops e2e-faults e2e-closed upgrade-test bench bench-serving bench-overload
doctor: .venv/ready ## what keeps the platform from running here, and what to do (ARGS="--probe --json ...")
	@$(PYTHON) -m ci.doctor --env $(ENV) $(ARGS)

test: lint types unit services go ## everything that needs no cluster, in minutes

lint: .venv/ready ## ruff, generated files, workflows, Renovate's settings
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ci.docs --check
	$(PYTHON) -m ci.monitoring --check
	.venv/bin/check-jsonschema --builtin-schema vendor.renovate .github/renovate.json
	.venv/bin/zizmor --offline --no-progress --quiet .github/workflows
	$(PYTHON) -m ci.actionlint

types: .venv/ready ## mypy, strict for core
	$(PYTHON) -m mypy ci services/*/src

unit: .venv/ready ## unit, chart, DAG and monitoring tests
	$(PYTEST) -m "not services and not e2e"

services: .venv/ready ## tests against real PostgreSQL, MinIO and MLflow, started as processes
	$(PYTHON) -m ci.minio
	$(PYTEST) -m services

contract: .venv/ready ## 5,000 requests that Schemathesis makes of the predictor's OpenAPI document (HOUSE_CASES=...)
	HOUSE_CASES=$(or $(HOUSE_CASES),5000) $(PYTEST) -s -m services tests/services/predictor/test_contract.py

go: ## the cluster's own programs, and the health of Applications: vet and tests
	for module in gitserver health; do (cd ci/argocd/$$module && GOCACHE=$(CACHE)/go-build CGO_ENABLED=0 go test -trimpath .); done
	cd ci/cluster/go && GOCACHE=$(CACHE)/go-build CGO_ENABLED=0 go vet -trimpath ./netpold/ ./probe/ && GOCACHE=$(CACHE)/go-build CGO_ENABLED=0 go test -trimpath ./netpold/

e2e: .venv/ready ## the platform on a real cluster: brought up, fed, asserted
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.images build
	$(PYTHON) -m ci.images load
	$(PYTEST) -m e2e --timeout=1800 --durations=8 tests/images tests/cluster tests/e2e

e2e-gitops: .venv/ready ## the platform by Argo CD on a real cluster, from nothing (it removes what is there)
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.images load
	$(PYTEST) -m e2e --timeout=1800 tests/gitops

e2e-faults: .venv/ready ## pods killed, stores away, a faulty data API, and clients that must not notice (it removes what is there)
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.images load
	$(PYTEST) -m e2e --timeout=1800 -s tests/faults

e2e-closed: .venv/ready ## the bundle installed on the one-node cluster with egress cut: no pull (it removes what is there)
	$(PYTHON) -m ci.cluster up
	$(PYTEST) -m e2e --timeout=1800 -s tests/closed

upgrade-test: .venv/ready ## from the last release to this checkout, with a pipeline run and requests (it removes what is there)
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.images load
	$(PYTEST) -m e2e --timeout=3600 -s tests/upgrade

bench: .venv/ready ## ratios measured in one run on this machine
	$(PYTHON) -m tests.bench.serving_quick
	$(PYTHON) -m tests.bench.batch
	$(PYTHON) -m tests.bench.features
	$(PYTHON) -m tests.bench.growth
	$(PYTHON) -m tests.bench.ingest

bench-overload: .venv/ready ## our predictor under five times the load that it can take: waits, refusals, memory (ARGS="--rounds 3 ...")
	@PATH="$(dir $(UV)):$$PATH" $(PYTHON) -m tests.bench.serving.overload $(ARGS)

bench-serving: .venv/ready ## our predictor beside MLflow's, MLServer, KServe and BentoML: same model, same run (ARGS="--quick --only ...")
	@PATH="$(dir $(UV)):$$PATH" $(PYTHON) -m tests.bench.serving $(ARGS)

##@ Upkeep
.PHONY: lock docs format cache-clean
lock: $(UV) ## resolve all Python packages anew, write the hash-pinned requirement files
	PATH="$(dir $(UV)):$$PATH" $(PYTHON) -m ci.lock
	PATH="$(dir $(UV)):$$PATH" $(PYTHON) -m tests.bench.serving.environments

docs: .venv/ready ## write all generated files: chart READMEs, dashboards, alert rules
	$(PYTHON) -m ci.docs
	$(PYTHON) -m ci.monitoring

format: .venv/ready ## format all Python
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

cache-clean: ## forget everything that was built (folder: HOUSE_CACHE_DIR, else under /var/cache or ~/.cache)
	rm -rf "$(CACHE)"

$(UV):
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 to 3.13 is needed as python3; found $$(python3 --version)" >&2; exit 1; }
	@python3 -m venv "$(CACHE)/uv-$(UV_VERSION)" && "$(CACHE)/uv-$(UV_VERSION)/bin/pip" install -q "uv==$(UV_VERSION)"

.venv/ready: requirements-dev.lock $(foreach m,$(MEMBERS),services/$(m)/pyproject.toml) | $(UV)
	@echo "making .venv from requirements-dev.lock (1.6 GB; a minute or two the first time)"
	@$(UV) venv -q --clear --python python3 .venv
	@$(UV) pip install -q --python $(PYTHON) --only-binary :all: --require-hashes -r requirements-dev.lock
	@$(UV) pip install -q --python $(PYTHON) --no-deps $(foreach m,$(MEMBERS),-e services/$(m))
	@touch $@
