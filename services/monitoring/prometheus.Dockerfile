# Prometheus from its Go module. The module has the sources of its web pages, not the pages. They are built only with
# UI=1, because Node needs minutes to build them from the npm packages in the lock of the module. Without them, every page
# of Prometheus shows links to its HTTP API.
#   --build-arg UI=1            with the web pages
#   --build-arg GO_IMAGE=...    image with Go
#   --build-arg NODE_IMAGE=...  image with Node and npm, or with uv to install them
#   --secret id=npmrc,src=...   configuration of npm, if its registry is not the public one
ARG GO_IMAGE=docker.io/library/golang:1.26-trixie
ARG NODE_IMAGE=docker.io/library/node:24-trixie-slim
ARG UI=0

FROM ${GO_IMAGE} AS source
ARG SSL_CERT_FILE
COPY monitoring/prometheus/go.mod monitoring/prometheus/go.sum /src/
WORKDIR /src
RUN M=github.com/prometheus/prometheus && go mod download "$M" \
 && cp -r --no-preserve=mode "$(go list -m -f '{{.Dir}}' "$M")" /prometheus

FROM scratch AS ui-0
COPY monitoring/prometheus/plain /static/mantine-ui

FROM ${NODE_IMAGE} AS ui-1
ARG SSL_CERT_FILE
ENV NODE_EXTRA_CA_CERTS=${SSL_CERT_FILE} UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy CI=true \
    PATH=/tools/node_modules/.bin:/tools/node/bin:${PATH}
COPY monitoring/prometheus/pages /tools
WORKDIR /tools
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc \
    if ! command -v npm > /dev/null; then \
      uv venv -q node && VIRTUAL_ENV=/tools/node uv pip install -q --require-hashes --only-binary :all: -r node.lock; fi \
 && npm ci --no-audit --no-fund
COPY --from=source /prometheus/web/ui /pages
WORKDIR /pages
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc \
    sed -i -f /tools/served.sed pnpm-lock.yaml mantine-ui/package.json \
 && pnpm install --frozen-lockfile --filter '@prometheus-io/mantine-ui...' \
 && bash build_ui.sh --mantine-ui && mv static /static

FROM ui-${UI} AS ui

FROM source AS build
ARG SSL_CERT_FILE
ARG GOCACHE=/root/.cache/go-build
# the compiler collects garbage only near 2 GiB of a process, which makes a first build 40 % shorter
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false -mod=readonly -gcflags=all=-dwarf=false" GOGC=off GOMEMLIMIT=2GiB
COPY --from=ui /static /prometheus/web/ui/static
RUN (cd /prometheus && bash scripts/compress_assets.sh) \
 && M=github.com/prometheus/prometheus && go mod edit -replace "$M=/prometheus" \
 && VERSION=$(cat /prometheus/VERSION) && V=github.com/prometheus/common/version \
 && mkdir -p /out/bin /out/data /out/tmp /out/etc && chmod 1777 /out/tmp && chown 10001:10001 /out/data \
 && go build -tags "builtinassets,remove_all_sd,enable_kubernetes_sd,enable_dns_sd" -o /out/bin/prometheus \
      -ldflags "-s -w -X $V.Version=$VERSION -X $V.Branch=v$VERSION -X $V.BuildUser=house-platform" "$M/cmd/prometheus"

FROM scratch
COPY --from=build /out /
ENV PATH=/bin HOME=/tmp
USER 10001:10001
EXPOSE 9090
ENTRYPOINT ["/bin/prometheus"]
