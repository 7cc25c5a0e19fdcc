# Alertmanager from its Go module, which includes its built web pages.
ARG GO_IMAGE=docker.io/library/golang:1.26-trixie
FROM ${GO_IMAGE} AS build
ARG SSL_CERT_FILE
ARG GOCACHE=/root/.cache/go-build
# the compiler collects garbage only near 2 GiB of a process, which makes a first build 40 % shorter
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false -mod=readonly -gcflags=all=-dwarf=false" GOGC=off GOMEMLIMIT=2GiB
COPY monitoring/alertmanager /src
WORKDIR /src
RUN M=github.com/prometheus/alertmanager && go mod download "$M" \
 && VERSION=$(cat "$(go list -m -f '{{.Dir}}' "$M")/VERSION") && V=github.com/prometheus/common/version \
 && mkdir -p /out/bin /out/data /out/tmp /out/etc && chmod 1777 /out/tmp && chown 10001:10001 /out/data \
 && go build -o /out/bin/alertmanager \
      -ldflags "-s -w -X $V.Version=$VERSION -X $V.Branch=v$VERSION -X $V.BuildUser=house-platform" "$M/cmd/alertmanager"

FROM scratch
COPY --from=build /out /
# Debian's certificate authorities, for receivers with TLS
COPY --from=build /usr/share/ca-certificates/mozilla /usr/share/ca-certificates/mozilla
ENV PATH=/bin HOME=/tmp SSL_CERT_DIR=/usr/share/ca-certificates/mozilla
USER 10001:10001
EXPOSE 9093
ENTRYPOINT ["/bin/alertmanager"]
