# People and CI use the same targets. `make` prints the common ones (## below), `make help-all` all of them (## and ###).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ENV ?= kind
CACHE := $(or $(HOUSE_CACHE_DIR),$(if $(filter 0,$(shell id -u)),/var/cache/house-platform,$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/house-platform))
UV_VERSION := $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' services/requirements-uv.lock 2> /dev/null)
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
PYTHON := .venv/bin/python
HASHED := --only-binary :all: --require-hashes
MEMBERS := core pipeline predictor ui datasource
PYTEST := $(PYTHON) -m pytest -q
# Packages of MLflow's server and of Airflow hold those of our services back, so both have environments of their own.
MLFLOW := build/mlflow-venv/ready
DAGS := build/dags-venv/ready
TEST_DAGS = $(DAGS:ready=bin/python) -m pytest -q -n 2 tests/dags
# Service tests wait more than they compute: four workers keep two cores busy. Each worker starts its own servers.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? 4 : n)))
# The settings of ci/common/gocache.py, which has their reasons.
GO := GOCACHE=$(CACHE)/go-build GOGC=off GOMEMLIMIT=2GiB CGO_ENABLED=0 \
	GOFLAGS="-trimpath -buildvcs=false -mod=readonly -gcflags=all=-dwarf=false" go
# Without bytecode, each test that starts a program compiles all its imports again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ### print the common targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {title = substr($$0, 5)} /^[a-z][a-z0-9-]*:.*[^#]## / {if (title) printf "\n%s\n", title; title = ""; printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The whole loop
.PHONY: up down demo run drain status pages smoke lineage
up: .venv/deploy ## create the cluster, build the images, install the platform, run the pipeline once, ask for a price (ARGS="--sequential ...")
	@$(PYTHON) -m ci.deploy.up --env $(ENV) $(ARGS)

down: .venv/deploy ## remove the platform with its data, and the cluster that `make up` created
	@$(PYTHON) -m ci.cluster down

demo: .venv/test ## run the same loop without Kubernetes in one terminal; Ctrl-C ends it
	@$(PYTHON) -m ci.local.demo

run: .venv/deploy ## run the pipeline once on the cluster: fetch the next batch, decide, train, promote
	@$(PYTHON) -m ci.deploy.runs

drain: .venv/deploy ## run the pipeline until the data API has no more data
	@$(PYTHON) -m ci.deploy.runs --drain

status: .venv/deploy ## list every pod, with the reason if it is not Ready
	@$(PYTHON) -m ci.deploy.platform status

pages: .venv/deploy ## print the addresses of all web pages
	@$(PYTHON) -m ci.deploy.platform pages

smoke: .venv/deploy ### send a small model through MLflow from a pod like those of the stages, and print each step
	@$(PYTHON) -m ci.deploy.commands smoke

lineage: .venv/deploy ### print the origin of a model version: run, code, image, batches, decision, verdict, report: VERSION=3
	@$(PYTHON) -m ci.deploy.commands lineage --version "$(VERSION)"

##@ Single steps
.PHONY: setup k3s cluster cluster-stop cluster-start cluster-down ingress images secrets api-key api-key-revoke api-keys rotate-secret install remove
setup: .venv/ready $(DAGS) ### create all Python environments; other targets create only the part that they need

k3s: ### install K3s on this machine with the settings in ci/k3s (as root)
	ci/k3s/up.sh

cluster: .venv/deploy ## create a kind cluster with three nodes (NODES=1 for one), or use CLUSTER=current: the current kubeconfig context
	@$(PYTHON) -m ci.cluster up

ingress: .venv/deploy ### serve the Ingresses of the kind cluster with Traefik, like K3s does
	@$(PYTHON) -m ci.traefik up

cluster-stop: .venv/deploy ### stop the nodes of the kind cluster and keep its data
	@$(PYTHON) -m ci.cluster stop

cluster-start: .venv/deploy ### start the nodes of the kind cluster again
	@$(PYTHON) -m ci.cluster start

cluster-down: .venv/deploy ### remove the cluster and its data; the cache stays
	@$(PYTHON) -m ci.cluster down

images: .venv/deploy ## build every image whose inputs changed, and write values/images-<env>.yaml
	@$(PYTHON) -m ci.images build --env $(ENV)

secrets: .venv/deploy ### create the namespaces and the Secrets that do not exist yet; never change an existing Secret
	@$(PYTHON) -m ci.deploy.secrets

api-key: .venv/deploy ## make a key of the price service for a new client and print it once: NAME=shop
	@$(PYTHON) -m ci.deploy.api_keys make --name "$(NAME)"

api-key-revoke: .venv/deploy ### revoke the key of a client: NAME=shop
	@$(PYTHON) -m ci.deploy.api_keys revoke --name "$(NAME)"

api-keys: .venv/deploy ### list the clients that have a key
	@$(PYTHON) -m ci.deploy.api_keys list

rotate-secret: .venv/deploy ### give a Secret of the platform new values, and restart what uses it: NAME=mlflow (no NAME: print the names)
	@$(PYTHON) -m ci.deploy.rotate $(or $(NAME),--list)

install: .venv/deploy ## install or upgrade the platform on the current cluster with Helm, and restore what is missing or differs
	@$(PYTHON) -m ci.deploy.platform install --env $(ENV)

remove: .venv/deploy ### remove the platform with its data from the current cluster (not created by `make cluster`: CONFIRM=<context>)
	@$(PYTHON) -m ci.deploy.platform remove

##@ Backups
.PHONY: backup backups restore
backup: .venv/deploy ## make a full backup of databases and buckets now (CronJobs make them by themselves)
	@$(PYTHON) -m ci.deploy.backup full

backups: .venv/deploy ### list the full backups at the target
	@$(PYTHON) -m ci.deploy.backup list

restore: .venv/deploy ## restore a backup into an empty cluster and install the platform on it: FROM=latest (TIME=2026-11-29T12:00:00Z)
	@$(PYTHON) -m ci.deploy.backup restore --env $(ENV) --from "$(FROM)" --time "$(TIME)" $(ARGS)

##@ With Argo CD
.PHONY: gitops gitops-push gitops-status gitops-to-helm gitops-remove
gitops: .venv/deploy ## deliver the platform with Argo CD: install it, give it this checkout (CLUSTER=current: the repository), wait for all
	@$(PYTHON) -m ci.argocd up --env $(ENV)

gitops-push: .venv/deploy ### deliver HEAD: serve it to Argo CD and wait until the cluster matches it
	@$(PYTHON) -m ci.argocd push --env $(ENV)

gitops-status: .venv/deploy ### list every Application: sync, health, last operation, revision
	@$(PYTHON) -m ci.argocd status

gitops-to-helm: .venv/deploy ### hand the running platform over from Argo CD to Helm without touching a pod (`make gitops` does the opposite)
	@$(PYTHON) -m ci.argocd to-helm --env $(ENV)

gitops-remove: .venv/deploy ### remove the Applications and Argo CD; the data stays until `make remove`
	@$(PYTHON) -m ci.argocd remove

##@ Releases
.PHONY: promote-env bundle bundle-verify bundle-install push publish publish-join publish-names publish-mirror release scan new-version notes charts
bundle: .venv/deploy ## write one file that installs ENV without a registry: images, charts, installer, doctor (SIGN_WITH=<private key>)
	@$(PYTHON) -m ci.bundle --env $(ENV) $(if $(SIGN_WITH),--sign-with "$(SIGN_WITH)") $(ARGS)

# The newest bundle of ENV, as the shell variable `bundle`.
NEWEST_BUNDLE = bundle=$$(ls -t build/house-platform-*-$(ENV).tar.{zst,gz} 2>/dev/null | head -1 || true); \
	if [ -z "$$bundle" ]; then echo "build/ has no bundle of $(ENV): write one with \`make bundle ENV=$(ENV)\`" >&2; exit 1; fi

# Not empty if SIGNER is given, also as an empty text: signature.sh refuses that.
SIGNED = $(filter-out undefined,$(origin SIGNER))

bundle-verify: ### check without a network who signed the newest bundle of ENV: SIGNER=<allowed-signers file>
	@$(NEWEST_BUNDLE); ci/bundle/signature.sh "$$bundle" "$(SIGNER)"

bundle-install: ### unpack the newest bundle of ENV and run its installer (as root; SIGNER=<allowed-signers file>, ARGS="--argocd ...")
	@$(NEWEST_BUNDLE); \
	$(if $(SIGNED),ci/bundle/signature.sh "$$bundle" "$(SIGNER)";) \
	rm -rf build/unpacked; mkdir -p build/unpacked; tar -xf "$$bundle" -C build/unpacked; \
	build/unpacked/*/install.sh $(if $(SIGNED),--signer="$(SIGNER)" --archive="$$bundle") $(ARGS)

push: .venv/deploy ### copy the images of ENV to a registry without changing digests: REGISTRY=registry.example/house
	@$(PYTHON) -m ci.bundle.push --env $(ENV) --registry "$(REGISTRY)"

publish: .venv/deploy ### build and push the images that REGISTRY lacks, for the architecture of this machine
	@$(PYTHON) -m ci.images.publish push --registry "$(REGISTRY)"

publish-join: .venv/deploy ### join the published images of all architectures under one tag, and write their SBOMs
	@$(PYTHON) -m ci.images.publish join --registry "$(REGISTRY)"
	@$(PYTHON) -m ci.images.publish sboms --registry "$(REGISTRY)"

publish-names: .venv/deploy ### print as JSON the published images that ENV does not name yet
	@$(PYTHON) -m ci.images.publish names --registry "$(REGISTRY)" --env $(ENV)

publish-mirror: .venv/deploy ### copy the published images to a second registry without changing digests: MIRROR=docker.io/name
	@$(PYTHON) -m ci.images.publish mirror --registry "$(REGISTRY)" --to "$(MIRROR)"

scan: .venv/deploy ### report known vulnerabilities of the packages in the SBOMs (needs Go and the internet; SBOMS=...)
	@$(PYTHON) -m ci.checks.scan $(or $(SBOMS),build/sbom/*.cdx.json)

release: .venv/deploy ### commit the published images of this checkout to values/images-<env>.yaml
	@$(PYTHON) -m ci.deploy.release write --env $(ENV) --published --commit

new-version: .venv/deploy ### give project files, charts and CHANGELOG.md the version VERSION, for a release
	@$(PYTHON) -m ci.checks.new_version "$(VERSION)"

notes: .venv/deploy ### print the release notes of VERSION from CHANGELOG.md
	@$(PYTHON) -m ci.checks.release_notes "$(VERSION)"

charts: .venv/deploy ### package every chart into build/charts; with REGISTRY, push them there as OCI artifacts
	@$(PYTHON) -m ci.deploy.charts package $(if $(REGISTRY),--registry "$(REGISTRY)")

promote-env: .venv/deploy ### give an environment the images of another one: FROM=vm TO=prod; COMMIT=1 commits the file
	@$(PYTHON) -m ci.deploy.release promote --from "$(FROM)" --to "$(TO)" $(if $(COMMIT),--commit)

##@ Checks
.PHONY: doctor test check lint types checkov secret-scan unit services contract go minio collect e2e e2e-gitops e2e-faults e2e-closed upgrade-test nightly bench bench-serving bench-overload
doctor: .venv/deploy ## report what prevents the platform from running here, and how to fix it (ARGS="--probe --json ...")
	@$(PYTHON) -m ci.doctor --env $(ENV) $(ARGS)

test: .venv/ready $(DAGS) ## run every check that needs no cluster
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target lint types go minio collect
	$(PYTEST) -n $(WORKERS) -m "not e2e"
	$(TEST_DAGS)

check: .venv/ready $(DAGS) ## run the quick loop: lint, types, and the unit tests of files that changed since BASE (default: main)
	@$(PYTHON) -m ci.checks.changed $(if $(BASE),--base "$(BASE)")

lint: .venv/ready ### run ruff; check import contracts, wording, generated files, workflows and the Renovate settings
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	.venv/bin/lint-imports --no-cache
	$(PYTHON) -m ci.checks.words
	$(PYTHON) -m ci.checks.docs --check
	$(PYTHON) -m ci.monitoring --check
	.venv/bin/check-jsonschema --builtin-schema vendor.renovate .github/renovate.json
	.venv/bin/zizmor --offline --no-progress --quiet .github/workflows
	$(PYTHON) -m ci.checks.actionlint

types: .venv/ready ### run mypy, strict for all programs
	$(PYTHON) -m mypy ci services/*/src

checkov: .venv/deploy build/checkov-venv/ready ### compare the rendered manifests of every environment with Checkov's rules
	@$(PYTHON) -m ci.checks.checkov

secret-scan: .venv/deploy ### search every commit of the repository for secrets (needs Go, which compiles gitleaks once)
	@$(PYTHON) -m ci.checks.secret_scan

unit: .venv/test $(DAGS) ### run the unit, chart, DAG and monitoring tests
	$(PYTEST) -n $(WORKERS) -m "not services and not e2e"
	$(TEST_DAGS)

services: .venv/test $(DAGS) minio ### run the tests that start real PostgreSQL, MinIO and MLflow processes
	$(PYTEST) -n $(WORKERS) -m services

contract: .venv/test ### send 5,000 requests generated by Schemathesis from the predictor's OpenAPI document (HOUSE_CASES=...)
	HOUSE_CASES=$(or $(HOUSE_CASES),5000) $(PYTEST) -s -m services tests/services/predictor/test_contract.py

go: ### vet and test the Go programs of the cluster and of Argo CD
	for module in gitserver health; do (cd ci/argocd/$$module && $(GO) test .); done
	cd ci/cluster/registryless/go && $(GO) vet ./netpold/ ./probe/ && $(GO) test ./netpold/

minio: .venv/test ### compile the MinIO server for the service tests (once per version)
	@$(PYTHON) -m ci.local.minio

collect: .venv/test ### import every test module once; the processes of `make test` then find them compiled
	@mkdir -p build
	@$(PYTEST) --collect-only -q -m "not e2e" > build/collected.txt || { cat build/collected.txt; exit 1; }

e2e: .venv/test ## test the platform on a real cluster: create it, feed it, check it
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.cluster confirm
	$(PYTHON) -m ci.traefik build
	$(PYTHON) -m ci.images build
	$(PYTHON) -m ci.images load
	$(PYTEST) -m e2e --timeout=1800 --durations=8 tests/images tests/cluster tests/e2e tests/pages

e2e-gitops: .venv/test ### test the delivery by Argo CD on a real cluster, from nothing (removes an installed platform)
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.cluster confirm
	$(PYTHON) -m ci.images load
	$(PYTEST) -m e2e --timeout=1800 --durations=8 tests/gitops

e2e-faults: .venv/test ### kill pods, stop stores and break the data API while clients send requests (removes an installed platform)
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.cluster confirm
	$(PYTHON) -m ci.images load
	$(PYTEST) -m e2e --timeout=1800 -s tests/faults

e2e-closed: .venv/test ### install the bundle on a kind cluster without egress (removes an installed platform)
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.cluster confirm
	$(PYTEST) -m e2e --timeout=1800 -s tests/closed

upgrade-test: .venv/test ### upgrade from the last release to this checkout during a pipeline run and requests (removes an installed platform)
	$(PYTHON) -m ci.cluster up
	$(PYTHON) -m ci.cluster confirm
	$(PYTHON) -m ci.images load
	$(PYTEST) -m e2e --timeout=3600 -s tests/upgrade

nightly: .venv/ready ### run every long suite and print one table (ARGS="e2e bench" runs some of them)
	@$(PYTHON) -m ci.checks.nightly $(ARGS)

bench: .venv/test ### measure ratios of times on this machine
	$(PYTHON) -m tests.bench.serving_quick
	$(PYTHON) -m tests.bench.batch
	$(PYTHON) -m tests.bench.comparables
	$(PYTHON) -m tests.bench.features
	$(PYTHON) -m tests.bench.growth
	$(PYTHON) -m tests.bench.ingest

bench-overload: .venv/test ### measure the predictor under five times its capacity: waits, refusals, memory (ARGS="--rounds 3 ...")
	@PATH="$(dir $(UV)):$$PATH" $(PYTHON) -m tests.bench.serving.overload $(ARGS)

bench-serving: .venv/test ### compare the predictor with MLflow, MLServer, KServe and BentoML on one model (ARGS="--quick --only ...")
	@PATH="$(dir $(UV)):$$PATH" $(PYTHON) -m tests.bench.serving $(ARGS)

##@ Maintenance
.PHONY: help-all lock docs site site-lock checkov-lock uv-lock format cache-clean
help-all: ## print all other targets, too
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {title = substr($$0, 5)} /^[a-z][a-z0-9-]*:.*## / {sub("### ", "## "); if (title) printf "\n%s\n", title; title = ""; printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lock: .venv/deploy ### write the hash-pinned lock files; versions stay, except UPGRADE="NAME ..." or UPGRADE=all
	PATH="$(dir $(UV)):$$PATH" $(PYTHON) -m ci.checks.lock $(if $(UPGRADE),--upgrade $(UPGRADE))
	PATH="$(dir $(UV)):$$PATH" $(PYTHON) -m tests.bench.serving.environments $(if $(filter all,$(UPGRADE)),--upgrade)

docs: .venv/ready ### write all generated files: chart READMEs, dashboard, alert rules
	$(PYTHON) -m ci.checks.docs
	$(PYTHON) -m ci.monitoring

site: build/site-venv/ready build/mermaid/mermaid.min.js ### build the documentation as a web site in build/site (ARGS=serve shows it at localhost:8001 instead)
	@NO_MKDOCS_2_WARNING=1 build/site-venv/bin/mkdocs $(if $(filter serve,$(ARGS)),serve --dev-addr localhost:8001,build --quiet)

site-lock: | $(UV) ### write docs/requirements.lock from docs/requirements.in
	cd docs && $(UV) pip compile --quiet --generate-hashes --universal --no-annotate --no-header --python-version 3.11 --upgrade requirements.in -o requirements.lock

checkov-lock: | $(UV) ### write ci/checks/checkov/requirements.lock from its requirements.in
	cd ci/checks/checkov && $(UV) pip compile --quiet --generate-hashes --universal --no-annotate --no-header --python-version 3.11 --upgrade requirements.in -o requirements.lock

uv-lock: ### write services/requirements-uv.lock for another version of uv: UV_VERSION=0.14.0
	rm -rf build/uv && python3 -m venv build/uv && build/uv/bin/pip install -q "uv==$(UV_VERSION)"
	{ echo "# Written by \`make uv-lock\`; do not edit. uv installs every other package."; \
	echo "uv==$(UV_VERSION)" | build/uv/bin/uv pip compile --quiet --generate-hashes --universal --no-annotate --no-header --python-version 3.11 -; } > build/uv/lock
	mv build/uv/lock services/requirements-uv.lock
	rm -rf build/uv

format: .venv/ready ### format all Python files
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

cache-clean: ### delete the cache (HOUSE_CACHE_DIR, else a folder in /var/cache or ~/.cache)
	rm -rf "$(CACHE)"

$(UV):
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 to 3.13 is needed as python3; found $$(python3 --version)" >&2; exit 1; }
	@python3 -m venv "$(CACHE)/uv-$(UV_VERSION)" && "$(CACHE)/uv-$(UV_VERSION)/bin/pip" install -q $(HASHED) -r services/requirements-uv.lock

# MkDocs has an environment of its own, because nothing else imports it.
build/site-venv/ready: docs/requirements.lock | $(UV)
	@$(UV) venv -q --clear --python python3 $(@D)
	@$(UV) pip install -q --python $(@D)/bin/python $(HASHED) -r $<
	@touch $@

# Checkov pins many packages that our services have in other versions.
build/checkov-venv/ready: ci/checks/checkov/requirements.lock | $(UV)
	@echo "creating $(@D) from $< (0.2 GB)" >&2
	@$(UV) venv -q --clear --python python3 $(@D)
	@$(UV) pip install -q --python $(@D)/bin/python $(HASHED) -r $<
	@touch $@

# The server as in its image: the service tests and `make demo` run it.
$(MLFLOW): services/mlflow/requirements.lock services/mlflow/excludes.txt | $(UV)
	@echo "creating $(@D) from $< (0.3 GB)" >&2
	@$(UV) venv -q --clear --python python3 $(@D)
	@$(UV) pip install -q --python $(@D)/bin/python $(HASHED) -r $<
	@grep -v '^#' services/mlflow/excludes.txt | xargs $(UV) pip uninstall -q --python $(@D)/bin/python
	@touch $@

$(DAGS): tests/dags/requirements.lock | $(UV)
	@echo "creating $(@D) from $< (0.5 GB)" >&2
	@$(UV) venv -q --clear --python python3 $(@D)
	@$(UV) pip install -q --python $(@D)/bin/python $(HASHED) -r $<
	@$(UV) pip install -q --python $(@D)/bin/python --no-deps -e services/pipeline
	@touch $@

# The script that draws the diagrams of the site, from a package of npm. docs/mermaid.lock has its version and sha256.
# Where npm is not installed, it comes from the wheel that Prometheus' pages use.
build/mermaid/mermaid.min.js: docs/mermaid.lock | $(UV)
	@rm -rf $(@D) && mkdir -p $(@D)
	@npm=$$(command -v npm || true); \
	if [ -z "$$npm" ]; then \
		$(UV) venv -q --python python3 $(@D)/node; npm=$(@D)/node/bin/npm; \
		$(UV) pip install -q --python $(@D)/node/bin/python $(HASHED) -r services/monitoring/prometheus/pages/node.lock; \
	fi; \
	read -r version sha256 < $<; \
	"$$npm" pack --silent --pack-destination $(@D) "mermaid@$$version" > /dev/null; \
	tar -xzf "$(@D)/mermaid-$$version.tgz" -C $(@D) --strip-components 2 --touch package/dist/mermaid.min.js; \
	rm -rf "$(@D)/mermaid-$$version.tgz" $(@D)/node; \
	echo "$$sha256  $@" | sha256sum --check --quiet

# .venv has three levels. A stamp file marks each level that is complete, and every target depends on one of them:
#   .venv/deploy   packages that the deployment programs under ci/ import
#   .venv/test     also the packages that services and tests import
#   .venv/ready    also linters and type stubs: everything
# A changed deploy lock recreates .venv. A changed test lock adds, updates and removes packages in place.
.venv/deploy: requirements-deploy.lock | $(UV)
	@echo "creating .venv from $< (60 MB)" >&2
	@$(UV) venv -q --clear --python python3 .venv
	@$(UV) pip install -q --python $(PYTHON) $(HASHED) -r $<
	@$(UV) pip install -q --python $(PYTHON) --no-deps -e services/pipeline
	@touch $@

.venv/test: requirements-test.lock $(foreach m,$(MEMBERS),services/$(m)/pyproject.toml) .venv/deploy | $(MLFLOW)
	@echo "adding the packages of services and tests to .venv, from $< (1.1 GB; a minute or two the first time)" >&2
	@rm -f .venv/ready
	@$(UV) pip sync -q --python $(PYTHON) $(HASHED) $<
	@$(UV) pip install -q --python $(PYTHON) --no-deps $(foreach m,$(MEMBERS),-e services/$(m))
	@touch $@

.venv/ready: requirements-dev.lock .venv/test
	@echo "adding linters and type stubs to .venv, from $< (0.2 GB)" >&2
	@$(UV) pip install -q --python $(PYTHON) $(HASHED) -r $<
	@touch $@
