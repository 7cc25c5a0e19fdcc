"""Keys, certificates and kubeconfigs of the one-node cluster, made once with openssl."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

from ci.cluster import settings
from ci.console import run

DAYS = "3650"
# identity of each client: kubeconfig's name to the certificate's subject
CLIENTS = {
    "admin": "/O=system:masters/CN=house-admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kubelet": f"/O=system:nodes/CN=system:node:{settings.NODE}",
    "kube-proxy": "/CN=system:kube-proxy",
    "netpold": "/CN=house:netpold",
}
API_NAMES = ",".join(
    [
        *(f"DNS:{name}" for name in ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")),
        f"DNS:kubernetes.default.svc.{settings.DOMAIN}",
        f"IP:127.0.0.1,IP:{settings.NODE_ADDRESS},IP:{settings.API_SERVICE}",
    ]
)


def pki_file(name: str) -> Path:
    """Path of a key or certificate."""
    return settings.state("pki", name)


def client_config(name: str) -> Path:
    """Path of a client's kubeconfig."""
    return settings.kubeconfig_path() if name == "admin" else settings.state("pki", f"{name}.yaml")


def make() -> bool:
    """Make all of it, or nothing where it is there already; returns whether it was made."""
    folder = settings.state("pki")
    if folder.exists() and settings.kubeconfig_path().exists():
        return False
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    _authority(partial, "ca", "house-ca")
    _authority(partial, "front-proxy-ca", "house-front-proxy-ca")
    run(["openssl", "genrsa", "-out", partial / "sa.key", "2048"])
    run(["openssl", "rsa", "-in", partial / "sa.key", "-pubout", "-out", partial / "sa.pub"])
    _leaf(partial, "apiserver", "ca", "/CN=kube-apiserver", "serverAuth", API_NAMES)
    names = f"DNS:{settings.NODE},IP:{settings.NODE_ADDRESS}"
    _leaf(partial, "kubelet-server", "ca", f"/O=system:nodes/CN=system:node:{settings.NODE}", "serverAuth", names)
    _leaf(partial, "apiserver-kubelet", "ca", "/CN=kube-apiserver-kubelet-client", "clientAuth")
    _leaf(partial, "front-proxy", "front-proxy-ca", "/CN=front-proxy-client", "clientAuth")
    configs = {}
    for name, subject in CLIENTS.items():
        _leaf(partial, name, "ca", subject, "clientAuth")
        configs[name] = _kubeconfig(partial, name)
    for name, text in configs.items():
        if name != "admin":
            _private(partial / f"{name}.yaml", text)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    _private(settings.kubeconfig_path(), configs["admin"])
    return True


def _key(folder: Path, name: str) -> Path:
    path = folder / f"{name}.key"
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])
    return path


def _authority(folder: Path, name: str, common_name: str) -> None:
    words: list[str | Path] = ["-subj", f"/CN={common_name}", "-key", _key(folder, name), "-days", DAYS]
    for extension in ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"):
        words += ["-addext", extension]
    run(["openssl", "req", "-x509", "-new", "-sha256", *words, "-out", folder / f"{name}.crt"])


def _leaf(folder: Path, name: str, authority: str, subject: str, usage: str, alternative_names: str = "") -> None:
    key = _key(folder, name)
    request = run(["openssl", "req", "-new", "-key", key, "-subj", subject]).stdout
    lines = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
    if alternative_names:
        lines.append(f"subjectAltName={alternative_names}")
    extensions = folder / "extensions"
    extensions.write_text("\n".join(lines) + "\n")
    words: list[str | Path] = ["-CA", folder / f"{authority}.crt", "-CAkey", folder / f"{authority}.key"]
    words += ["-CAcreateserial", "-days", DAYS, "-extfile", extensions, "-out", folder / f"{name}.crt"]
    run(["openssl", "x509", "-req", "-sha256", *words], stdin=request)
    extensions.unlink()


def _kubeconfig(folder: Path, name: str) -> str:
    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    server = f"https://{settings.NODE_ADDRESS}:{settings.API_PORT}"
    return f"""apiVersion: v1
kind: Config
clusters:
- name: house
  cluster: {{server: "{server}", certificate-authority-data: {data("ca.crt")}}}
users:
- name: house
  user: {{client-certificate-data: {data(f"{name}.crt")}, client-key-data: {data(f"{name}.key")}}}
contexts:
- name: house
  context: {{cluster: house, user: house}}
current-context: house
"""


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
