"""Configuration files and command lines of the cluster's programs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ci.cluster import build, settings
from ci.cluster.pki import client_config, pki_file
from ci.cluster.settings import state

HOST_RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


@dataclass(frozen=True)
class Component:
    """One program of the cluster; it is restarted when its command or a file that it reads has changed."""

    name: str
    command: tuple[str, ...]
    reads: tuple[Path, ...] = ()


def containerd_toml() -> str:
    """Configuration of containerd."""
    return f"""version = 2
root = "{state("containerd")}"
state = "{settings.RUN}/containerd"
[grpc]
  address = "{settings.SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state("containerd-opt")}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{build.image_name("pause")}"
  enable_selinux = false
  disable_apparmor = true
  # in a sandbox without CAP_SYS_RESOURCE an oom_score_adj below the own one cannot be set
  restrict_oom_score_adj = true
  # so that every network namespace under this folder is ours to remove
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{state("cni", "bin")}"
    conf_dir = "{state("cni", "conf")}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def cni_conflist(mtu: int) -> str:
    """Network of the pods: a routed pair of interfaces each, then our policy plugin, without which none starts."""
    ranges = [[{"subnet": settings.NODE_POD_CIDR}]]
    ipam = {"type": "host-local", "dataDir": f"{settings.RUN}/ipam", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    plugins = [
        {"type": "ptp", "ipMasq": False, "mtu": mtu, "ipam": ipam},
        {"type": "house-netpol", "socket": str(settings.NETPOL_SOCKET)},
    ]
    return json.dumps({"cniVersion": "1.0.0", "name": "house", "plugins": plugins}, indent=2) + "\n"


def kubelet_yaml() -> str:
    """Configuration of the kubelet."""
    port, health = settings.PORTS["kubelet"]
    return f"""apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {settings.NODE_ADDRESS}
port: {port}
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {pki_file("ca.crt")}}}
authorization: {{mode: Webhook}}
tlsCertFile: {pki_file("kubelet-server.crt")}
tlsPrivateKeyFile: {pki_file("kubelet-server.key")}
containerRuntimeEndpoint: unix://{settings.SOCKET}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
clusterDNS: [{settings.DNS_SERVICE}]
clusterDomain: {settings.DOMAIN}
resolvConf: {state("etc", "resolv.conf")}
seccompDefault: true
podLogsDir: {state("pod-logs")}
volumePluginDir: {state("volume-plugins")}
# images come from archives: one that is collected is lost, and a shared disk looks full
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{memory.available: 200Mi, nodefs.available: 2%, imagefs.available: 2%}}
maxPods: 200
nodeStatusReportFrequency: 5m
healthzBindAddress: 127.0.0.1
healthzPort: {health}
enableProfilingHandler: false
"""


def kube_proxy_yaml() -> str:
    """Configuration of kube-proxy: nftables tables of its own, the machine's connection tracking left as it is."""
    metrics, health = settings.PORTS["kube-proxy"]
    return f"""apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: {client_config("kube-proxy")}}}
clusterCIDR: {settings.POD_CIDR}
hostnameOverride: {settings.NODE}
bindAddress: {settings.NODE_ADDRESS}
healthzBindAddress: 127.0.0.1:{health}
metricsBindAddress: 127.0.0.1:{metrics}
nodePortAddresses: [{settings.NODE_ADDRESS}/32]
conntrack: {{maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"""


def nat_rules() -> str:
    """The nft script for pods that talk to the world outside: they appear as this machine."""
    inside = f"{settings.POD_CIDR}, {settings.SERVICE_CIDR}, {settings.NODE_ADDRESS}"
    return f"""table ip house_nat
delete table ip house_nat
table ip house_nat {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {settings.POD_CIDR} ip daddr != {{ {inside} }} masquerade
  }}
}}
"""


def nameservers() -> list[str]:
    """The machine's name servers that a pod can reach; one on a loopback address is not among them."""
    for file in HOST_RESOLVERS:
        if file.exists():
            found = re.findall(r"^\s*nameserver\s+(\S+)", file.read_text(), re.MULTILINE)
            return [server for server in found if not server.startswith("127.") and ":" not in server]
    return []


def resolv_conf() -> str:
    """What CoreDNS forwards to."""
    return "".join(f"nameserver {server}\n" for server in nameservers())


def files(mtu: int) -> dict[Path, str]:
    """Every configuration file: path to content."""
    return {
        state("etc", "containerd.toml"): containerd_toml(),
        state("etc", "kubelet.yaml"): kubelet_yaml(),
        state("etc", "kube-proxy.yaml"): kube_proxy_yaml(),
        state("etc", "resolv.conf"): resolv_conf(),
        state("cni", "conf", "10-house.conflist"): cni_conflist(mtu),
    }


def containerd() -> Component:
    """The container runtime, Debian's."""
    config = state("etc", "containerd.toml")
    return Component("containerd", ("containerd", "-c", str(config)), (config,))


def etcd() -> Component:
    """The API server's store."""
    client, peer = f"http://127.0.0.1:{settings.ETCD_PORT}", f"http://127.0.0.1:{settings.ETCD_PEER_PORT}"
    return _component(
        "etcd",
        ["name", settings.NODE],
        ["data-dir", state("etcd")],
        ["listen-client-urls", client],
        ["advertise-client-urls", client],
        ["listen-peer-urls", peer],
        ["initial-advertise-peer-urls", peer],
        ["initial-cluster", f"{settings.NODE}={peer}"],
        ["auto-compaction-retention", "1h"],
        ["quota-backend-bytes", 2 << 30],
        ["log-level", "warn"],
    )


def apiserver() -> Component:
    """The API server; it listens on the bridge only."""
    return _component(
        "kube-apiserver",
        ["advertise-address", settings.NODE_ADDRESS],
        ["bind-address", settings.NODE_ADDRESS],
        ["secure-port", settings.API_PORT],
        ["etcd-servers", f"http://127.0.0.1:{settings.ETCD_PORT}"],
        ["service-cluster-ip-range", settings.SERVICE_CIDR],
        ["allow-privileged", "true"],
        ["client-ca-file", pki_file("ca.crt")],
        ["tls-cert-file", pki_file("apiserver.crt")],
        ["tls-private-key-file", pki_file("apiserver.key")],
        ["service-account-issuer", f"https://kubernetes.default.svc.{settings.DOMAIN}"],
        ["service-account-key-file", pki_file("sa.pub")],
        ["service-account-signing-key-file", pki_file("sa.key")],
        ["authorization-mode", "Node,RBAC"],
        ["enable-admission-plugins", "NodeRestriction"],
        ["kubelet-certificate-authority", pki_file("ca.crt")],
        ["kubelet-client-certificate", pki_file("apiserver-kubelet.crt")],
        ["kubelet-client-key", pki_file("apiserver-kubelet.key")],
        ["kubelet-preferred-address-types", "InternalIP"],
        ["requestheader-client-ca-file", pki_file("front-proxy-ca.crt")],
        ["requestheader-allowed-names", "front-proxy-client"],
        ["requestheader-extra-headers-prefix", "X-Remote-Extra-"],
        ["requestheader-group-headers", "X-Remote-Group"],
        ["requestheader-username-headers", "X-Remote-User"],
        ["proxy-client-cert-file", pki_file("front-proxy.crt")],
        ["proxy-client-key-file", pki_file("front-proxy.key")],
        ["enable-aggregator-routing", "true"],
        ["profiling", "false"],
        reads=(pki_file("apiserver.crt"),),
    )


def controller_manager() -> Component:
    """The controllers."""
    return _component(
        "kube-controller-manager",
        *_local_client("kube-controller-manager"),
        ["use-service-account-credentials", "true"],
        ["service-account-private-key-file", pki_file("sa.key")],
        ["root-ca-file", pki_file("ca.crt")],
        ["cluster-signing-cert-file", pki_file("ca.crt")],
        ["cluster-signing-key-file", pki_file("ca.key")],
        ["cluster-cidr", settings.POD_CIDR],
        ["service-cluster-ip-range", settings.SERVICE_CIDR],
        ["allocate-node-cidrs", "false"],
        reads=(client_config("kube-controller-manager"),),
    )


def scheduler() -> Component:
    """The scheduler."""
    return _component("kube-scheduler", *_local_client("kube-scheduler"), reads=(client_config("kube-scheduler"),))


def netpold() -> Component:
    """The enforcer of NetworkPolicies."""
    config = client_config("netpold")
    return _component(
        "netpold",
        ["kubeconfig", config],
        ["socket", settings.NETPOL_SOCKET],
        ["health-address", f"127.0.0.1:{settings.PORTS['netpold'][0]}"],
        reads=(config,),
    )


def kubelet() -> Component:
    """The node's agent."""
    config = state("etc", "kubelet.yaml")
    return _component(
        "kubelet",
        ["config", config],
        ["kubeconfig", client_config("kubelet")],
        ["root-dir", state("kubelet")],
        ["hostname-override", settings.NODE],
        ["node-ip", settings.NODE_ADDRESS],
        ["node-labels", "topology.kubernetes.io/zone=house-a"],
        ["containerd", settings.SOCKET],  # cAdvisor's own way to it, without which its metrics name no pods
        reads=(config, client_config("kubelet")),
    )


def kube_proxy() -> Component:
    """The load balancer behind Services."""
    config = state("etc", "kube-proxy.yaml")
    return _component("kube-proxy", ["config", config], reads=(config, client_config("kube-proxy")))


def components() -> tuple[Component, ...]:
    """All programs in the order in which they start."""
    control = (etcd(), apiserver(), controller_manager(), scheduler())
    return (containerd(), *control, netpold(), kubelet(), kube_proxy())


def _component(name: str, *options: list[object], reads: tuple[Path, ...] = ()) -> Component:
    return Component(name, (str(build.program(name)), *(f"--{key}={value}" for key, value in options)), reads)


def _local_client(name: str) -> list[list[object]]:
    config = client_config(name)
    return [
        ["kubeconfig", config],
        ["authentication-kubeconfig", config],
        ["authorization-kubeconfig", config],
        ["bind-address", "127.0.0.1"],
        ["secure-port", settings.PORTS[name][0]],
        ["leader-elect", "false"],
        ["profiling", "false"],
    ]


def manifest(name: str, external_dns: bool) -> str:
    """One of the cluster's own manifests with its placeholders filled in."""
    text = (settings.MANIFESTS / f"{name}.yaml").read_text()
    values = {
        "DNS_SERVICE": settings.DNS_SERVICE,
        "DOMAIN": settings.DOMAIN,
        "VOLUMES": str(state("volumes")),
        "FORWARD": "forward . /etc/resolv.conf"
        if external_dns
        else "# this machine has no name server that pods reach",
        **{f"IMAGE_{short.replace('-', '_').upper()}": build.image_name(short) for short in build.recipes()},
    }
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found.group(1)], text)
