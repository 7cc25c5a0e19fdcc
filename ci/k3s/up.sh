#!/bin/sh
# Install one version of K3s with the settings beside this file. Run it as root. README.md describes the manual steps.
#
#   ci/k3s/up.sh             from its release on GitHub
#   ci/k3s/up.sh FOLDER      from the files of that release in a folder: k3s, install.sh of its tag, and
#                            k3s-airgap-images-amd64.tar.zst where nothing can be pulled
set -eu

VERSION=v1.36.3+k3s1 # checksums.sha256 belongs to this version: change both together
TAG=$(echo "$VERSION" | sed 's/+/%2B/')

refuse() {
    echo "REFUSED: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || refuse "run it as root"
[ "$(uname -m)" = x86_64 ] || refuse "the files of the release are for amd64, and this machine is $(uname -m): install K3s by hand, with these settings"
if command -v k3s >/dev/null; then
    refuse "K3s is already installed; k3s-uninstall.sh removes it with all its data"
fi
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -eq 1 ]; then
    cd "$1"
else
    cd "$(mktemp -d)"
    curl -fsSLO --retry 3 "https://github.com/k3s-io/k3s/releases/download/$TAG/k3s"
    curl -fsSLO --retry 3 "https://raw.githubusercontent.com/k3s-io/k3s/$TAG/install.sh"
fi
for file in k3s install.sh; do
    [ -e "$file" ] || refuse "$PWD has no $file: copy it from the release $VERSION"
done
sha256sum --check --ignore-missing "$here/checksums.sha256" ||
    refuse "the files do not match the checksums of $VERSION in $here/checksums.sha256: copy them again"

install -d -m 700 /etc/rancher/k3s /var/lib/rancher/k3s/server/logs
install -m 600 "$here/config.yaml" "$here/psa.yaml" "$here/audit.yaml" /etc/rancher/k3s/
if [ -e k3s-airgap-images-amd64.tar.zst ]; then
    install -D -m 644 k3s-airgap-images-amd64.tar.zst -t /var/lib/rancher/k3s/agent/images/
fi
install -m 755 k3s /usr/local/bin/k3s
INSTALL_K3S_SKIP_DOWNLOAD=true sh install.sh
until k3s kubectl get nodes -o name | grep -q .; do sleep 2; done
k3s kubectl wait --for=condition=Ready node --all --timeout=180s
