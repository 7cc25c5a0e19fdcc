# Prometheus from its Go module. The module holds the sources of the pages, not the pages: Node makes them, from the npm
# packages that the module's own lock names.
#   --build-arg GO_IMAGE=...    what has Go
#   --build-arg NODE_IMAGE=...  what has Node and npm, or uv to install them
#   --secret id=npmrc,src=...   npm's configuration, where its registry is not the public one
ARG GO_IMAGE=docker.io/library/golang:1.26-trixie
ARG NODE_IMAGE=docker.io/library/node:24-trixie-slim

FROM ${GO_IMAGE} AS source
ARG SSL_CERT_FILE
COPY monitoring/prometheus/go.mod monitoring/prometheus/go.sum /src/
WORKDIR /src
RUN M=github.com/prometheus/prometheus && go mod download "$M" \
 && cp -r --no-preserve=mode "$(go list -m -f '{{.Dir}}' "$M")" /prometheus

FROM ${NODE_IMAGE} AS pages
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
 && bash build_ui.sh --mantine-ui

FROM source AS build
ARG SSL_CERT_FILE
ARG GOCACHE=/root/.cache/go-build
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false -mod=readonly"
COPY --from=pages /pages/static /prometheus/web/ui/static
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
