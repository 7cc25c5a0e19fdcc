#!/bin/sh
# Install the platform from this folder, on a machine without access to a registry. You can run it again at any time.
#
#   ./install.sh             check this folder, run the doctor, import images, make Secrets, install, wait
#   ./install.sh --argocd    the same with Argo CD, which reads charts and values from a Git server in the cluster
#   ./install.sh --verify    only check every file of this folder against checksums.sha256
#   ./install.sh --images    check, and import the images into this machine's containerd (each further node needs that)
#   --signer=FILE            first check that a key of this allowed-signers file signed the archive of this folder
#   --archive=FILE           the archive that this folder was unpacked from (default: beside this folder)
#   --no-doctor              go on although the doctor says that it will not run
#   --again                  hand the release to helm even if it is this one already
#
# KUBECONFIG names another cluster than K3s, CONTAINERD_ADDRESS another containerd, KIND_CLUSTER a kind cluster of this
# machine, into whose nodes the images go (DOCKER_HOST names its engine). Needs sha256sum, tar, python3, kubectl.
set -eu

RELEASE=mlops
NAMESPACE=mlops
GIT_URL=http://git.argocd.svc:3080/platform.git

say() { echo "==> $*"; }
refuse() {
    echo "REFUSED: $*" >&2
    exit 1
}

# The path of a file from any folder.
absolute() {
    case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
    esac
}

# Check the publisher's signature of the archive, and that this folder has the archive's list of checksums. `verify` then
# compares every file with the list. signature.sh can be trusted as far as this script: both are in the bundle, so check
# the archive before you unpack it, too (README.md).
check_signature() {
    if [ -z "$signer" ]; then
        say "signature not checked: checksums show damage, but not who made this bundle (--signer=FILE, README.md)"
        return
    fi
    if [ -z "$archive" ]; then
        archive=$(dirname "$PWD")/$(basename "$PWD").tar.zst
        [ -e "$archive" ] || archive=${archive%.zst}.gz
        [ -e "$archive" ] || refuse "the archive of this folder is not beside it, so no signature can be checked: --archive=FILE names it"
    fi
    sh ./signature.sh "$archive" "$signer" || exit 1
    packed=${archive##*/} packed=${packed%.tar.*}/checksums.sha256
    if [ "$(tar -xOf "$archive" "$packed" | sha256sum)" != "$(sha256sum <checksums.sha256)" ]; then
        refuse "checksums.sha256 differs from the one in $archive: unpack this archive again into an empty folder"
    fi
}

# Check that every file is unchanged, that there is no other file, and that each image has its SBOM. Nothing is changed
# before this.
verify() {
    if grep -qvE '^[0-9a-f]{64}  [A-Za-z0-9._/+@-]+$' checksums.sha256; then
        refuse "checksums.sha256 is damaged: copy the bundle again"
    fi
    if ! wrong=$(sha256sum -c checksums.sha256 2>&1); then
        echo "$wrong" | grep -v ': OK$' >&2
        refuse "the files above are not as they were when the bundle was made: copy the bundle again"
    fi
    listed=$(cut -c67- checksums.sha256 | sort)
    files=$(find . ! -type d ! -path ./checksums.sha256 | cut -c3- | sort)
    if [ "$listed" != "$files" ]; then
        printf '%s\n' "$listed" "$files" | sort | uniq -u | head -5 >&2
        refuse "this folder has other files than checksums.sha256 lists, such as those above: delete them, or unpack the bundle into an empty folder"
    fi
    while read -r reference; do
        name=${reference##*/} name=${name%%:*}
        grep -qsF "${reference#*@sha256:}" "sbom/$name.cdx.json" || refuse "sbom/$name.cdx.json belongs to another image"
    done <images/names
    say "all $(wc -l <checksums.sha256) files are as they were when the bundle was made"
}

needs() {
    for program in "$@"; do
        command -v "$program" >/dev/null || refuse "$program is not installed here, or not on PATH: $PATH"
    done
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
        refuse "$(python3 --version) is too old: 3.9 or newer is needed as python3"
}

doctor() {
    [ "$doctor" = yes ] || return 0
    python3 -S -m ci.doctor --requirements requirements.json "$@" ||
        refuse "the doctor found problems: fix the lines with FAIL, or use --no-doctor"
}

# The nodes that get the images: this machine, or the containers of a kind cluster.
nodes() {
    if [ -z "${KIND_CLUSTER:-}" ]; then
        echo this-machine
        return
    fi
    kind_nodes=$(docker ps --filter "label=io.x-k8s.kind.cluster=$KIND_CLUSTER" --format '{{.Names}}') ||
        refuse "Docker does not answer: set DOCKER_HOST to the engine of the kind cluster $KIND_CLUSTER"
    [ -n "$kind_nodes" ] || refuse "there is no running kind cluster $KIND_CLUSTER: \`kind get clusters\` lists the ones there are"
    echo "$kind_nodes"
}

# ctr on the node $node.
containerd() {
    if [ -n "${KIND_CLUSTER:-}" ]; then
        docker exec -i "$node" ctr -n k8s.io "$@"
    elif [ -n "${CONTAINERD_ADDRESS:-}" ]; then
        ctr -a "$CONTAINERD_ADDRESS" -n k8s.io "$@"
    elif command -v k3s >/dev/null; then
        k3s ctr -n k8s.io "$@"
    else
        ctr -n k8s.io "$@"
    fi
}

# Names of images that containerd lacks. A pod's name:tag@digest is found through the record name@digest.
lacking() {
    present=$(containerd images ls -q) || refuse "containerd does not answer: run this as root on the node"
    while read -r reference; do
        name=${reference%@*}
        echo "$present" | grep -qxF "${name%:*}@${reference#*@}" || echo "$name"
    done <images/names
}

# The kubelet does not remove pinned images. They could not be pulled again.
import_images() {
    all=$(nodes)
    for node in $all; do
        import_into_node
    done
}

import_into_node() {
    names=$(lacking)
    if [ -z "$names" ]; then
        say "all $(wc -l <images/names) images are on $node"
        return
    fi
    say "import into $node:" $names # words of a list, here and below
    if [ -n "${KIND_CLUSTER:-}" ]; then
        containerd images import --no-unpack - <images/images.tar >/dev/null
    else
        containerd images import images/images.tar >/dev/null
    fi
    names=$(lacking)
    [ -z "$names" ] || refuse "containerd imported the archive but still lacks" $names
    while read -r reference; do
        name=${reference%@*}
        for record in "$name" "${name%:*}@${reference#*@}"; do
            containerd images label "$record" io.cri-containerd.pinned=pinned >/dev/null </dev/null
        done
    done <images/names
}

find_cluster() {
    if [ -z "${KUBECONFIG:-}" ]; then
        for file in /etc/rancher/k3s/k3s.yaml /var/lib/house-platform/kubeconfig.yaml; do
            if [ -r "$file" ]; then
                KUBECONFIG=$file
                export KUBECONFIG
                break
            fi
        done
    fi
    kubectl get --raw /readyz >/dev/null || refuse "no cluster answers: install K3s first (ci/k3s/README.md), set KUBECONFIG"
    # repositories that Argo CD reads, if it delivers the platform
    delivered=$(kubectl get applications.argoproj.io -A -l app.kubernetes.io/part-of=house-platform \
        -o 'jsonpath={range .items[*]}{.spec.source.repoURL}{"\n"}{end}' 2>/dev/null | sort -u || true)
    case $delivered,$argocd in
    ,* | "$GIT_URL,yes") ;;
    "$GIT_URL,no") refuse "Argo CD delivers this platform, from the cluster's own Git server: ./install.sh --argocd" ;;
    *) refuse "Argo CD delivers this platform from $delivered: commit the new images file there (argocd/README.md)" ;;
    esac
    [ $argocd = no ] || [ -d argocd/offline ] || refuse "this bundle was made without Argo CD: ./install.sh uses Helm"
}

# One IPv4 address as a network, several as a list of networks.
networks() {
    list=
    for address; do
        case $address in
        *:*) ;;
        *) list=${list:+$list,}$address/32 ;;
        esac
    done
    case $list in
    *,*) echo "{$list}" ;;
    *) echo "$list" ;;
    esac
}

install_release() {
    env=$(cat env)
    # shellcheck disable=SC2046 # words: port, then the address of each API server
    set -- $(kubectl -n default get endpointslices -l kubernetes.io/service-name=kubernetes \
        -o 'jsonpath={.items[0].ports[0].port}{range .items[*].endpoints[*]} {.addresses[0]}{end}')
    [ $# -ge 2 ] || refuse "the Service kubernetes has no endpoint: is the cluster up?"
    port=$1
    shift
    servers=$(networks "$@")
    # shellcheck disable=SC2046 # words: the address of each node, whose kubelet Prometheus scrapes
    set -- $(kubectl get nodes -o \
        'jsonpath={range .items[*]}{range .status.addresses[?(@.type=="InternalIP")]}{.address} {end}{end}')
    nodes=$(networks "$@")
    if [ -n "${KIND_CLUSTER:-}" ]; then # nodes of kind get other addresses when they restart
        servers=$(docker network inspect kind --format '{{range .IPAM.Config}}{{println .Subnet}}{{end}}' | grep -v : | head -n 1)
        nodes=$servers
    fi
    set -- -f "values/$env.yaml" -f "values/images-$env.yaml" \
        --set "global.kubeApi.cidr=$servers" --set "global.kubeApi.port=$port"
    # one node has the API server, too; values that name the nodes' network are left alone
    if [ -n "$nodes" ] && [ "$nodes" != "$servers" ] && ! grep -q '^  nodes:' "values/$env.yaml"; then
        set -- "$@" --set "global.nodes.cidr=$nodes"
    fi
    while read -r setting; do
        set -- "$@" --set "$setting"
    done <settings
    mark="bundle $( (sha256sum <checksums.sha256 && echo "$@") | sha256sum | cut -c1-16)"
    last=$(helm history "$RELEASE" -n "$NAMESPACE" --max 1 -o json 2>/dev/null || true)
    case $last in
    *'"status":"pending'*)
        say "an earlier install was interrupted; continuing it"
        helm rollback "$RELEASE" -n "$NAMESPACE" || true
        ;;
    *'"status":"deployed"'*"\"description\":\"$mark\""*)
        if [ "$again" = no ]; then
            if python3 -S -m ci.deploy.drift; then
                say "nothing changed"
                return
            fi
            say "restoring the objects above"
        fi
        ;;
    esac
    helm upgrade --install "$RELEASE" charts/platform-*.tgz -n "$NAMESPACE" --description "$mark" "$@" >/dev/null
    say "installed"
}

# The predictor is Ready once the first model is promoted.
wait_ready() {
    for workload in $(kubectl -n "$NAMESPACE" get deployments,statefulsets -o name | grep -v '/fastapi$'); do
        kubectl -n "$NAMESPACE" rollout status "$workload" --timeout=420s ||
            refuse "$workload is not Ready: python3 -B -m ci.doctor --requirements requirements.json gives the reason"
    done
}

main() {
    doctor=yes again=no what=all argocd=no signer='' archive=''
    for option in "$@"; do
        case $option in
        --verify) what=verify ;;
        --images) what=images ;;
        --no-doctor) doctor=no ;;
        --again) again=yes ;;
        --argocd) argocd=yes ;;
        --signer=?*) signer=$(absolute "${option#*=}") ;;
        --archive=?*) archive=$(absolute "${option#*=}") ;;
        --signer* | --archive*) refuse "${option%%=*} needs a file: ${option%%=*}=FILE (--help)" ;;
        -h | --help)
            sed -n '2,15s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) refuse "there is no option $option (--help)" ;;
        esac
    done
    cd "$(dirname "$0")"
    PYTHONDONTWRITEBYTECODE=1 CLUSTER=current LC_ALL=C
    HOME=${HOME:-/root} # without one, as in a unit of systemd, kubectl and helm would keep their caches in this folder
    export PYTHONDONTWRITEBYTECODE CLUSTER LC_ALL HOME

    check_signature
    verify
    [ $what != verify ] || exit 0
    PATH="$PWD/bin:$PATH" # only now: no program of this folder checks this folder
    export PATH
    if [ $what = images ]; then
        needs python3
        doctor --no-cluster
        import_images
        exit 0
    fi
    needs python3 kubectl
    find_cluster
    doctor --before
    import_images
    python3 -S -m ci.deploy.secrets
    if [ $argocd = yes ]; then
        python3 -S -m ci.argocd.offline --title "$(basename "$PWD")"
    else
        install_release
        wait_ready
    fi
    say "images pulled from a registry since: $(kubectl get events -A --field-selector reason=Pulling -o name | wc -l)"
    say "python3 -B -m ci.doctor --requirements requirements.json --installed checks the installed platform; start the first pipeline run" \
        "in Airflow, or wait for its schedule"
}

main "$@"
