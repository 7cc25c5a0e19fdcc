"""install.sh with stand-ins that record their calls. It refuses a damaged bundle before it calls any of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ci.argocd import apply
from ci.checks.new_version import current
from ci.common.paths import CHECKOUT
from tests.kit.bundles import unpack

VERSION = current(CHECKOUT)

# A cluster that answers; helm's last release, the images of the node and the served branch are files, which these
# programs write. Argo CD is as the branch says at once.
KUBECTL = """#!/bin/sh
echo "kubectl $*" >>"$CALLS"
case "$*" in
*readyz*) echo ok ;;
*'create --dry-run=client'*) cat ;; # the objects that ci.deploy.drift reads; none of them exists
*'get --ignore-not-found'*) cat >/dev/null ;;
*'get crd'*) echo '{"status": {"conditions": [{"type": "Established", "status": "True"}]}}' ;;
*exec*) while [ "$1" != -C ]; do shift; done; shift 2; git -C "$STATE/platform.git" "$@" ;;
*endpointslices*jsonpath*) echo '6443 192.0.2.7' ;;
*'get nodes'*jsonpath*) cat "$STATE/nodes" 2>/dev/null || true ;;
*endpointslices*) echo '{"items": [{"endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"port": 6443}]}]}' ;;
*applications*jsonpath*) cat "$STATE/argocd" 2>/dev/null || true ;;
*applications*)
    at=$(git -C "$STATE/platform.git" rev-parse main)
    one() {
        echo '{"metadata": {"name": "'$1'"}, "spec": {"project": "'$2'", "source": {"targetRevision": "'$at'"}},
            "status": {"sync": {"status": "Synced", "revision": "'$at'"}, "health": {"status": "Healthy"},
             "operationState": {"phase": "Succeeded"}, "resources": [{"kind": "'$3'", "name": "fastapi"}]}}'
    }
    echo '{"items": ['; one house-platform house-platform-root Application; echo ,
    one fastapi house-platform Deployment; echo ']}'
    ;;
*'owner=helm'*'-o name'*) ;;
*'apply --server-side'*make-gitops*) { cat; echo; } >>"$STATE/applied" ;;
*'get deployments,statefulsets'*) echo deployment.apps/mlflow; echo deployment.apps/fastapi ;;
*jsonpath*) ;;
*'-o json'*) echo '{"items": []}' ;;
*) cat >/dev/null ;;
esac
"""
CTR = """#!/bin/sh
echo "k3s $*" >>"$CALLS"
case "$*" in
*'images ls'*) cat "$STATE/images" 2>/dev/null || true ;;
*'images import'*) sed -E 's/:[^:@]+@/@/' images/names >"$STATE/images" ;;
esac
"""
HELM = """#!/bin/sh
echo "helm $*" >>"$CALLS"
case "$*" in
history*) cat "$STATE/release" 2>/dev/null || exit 1 ;;
'get manifest'*) cat "$STATE/manifest" 2>/dev/null || true ;;
upgrade*)
    while [ "$1" != --description ]; do shift; done
    printf '[{"revision":1,"status":"deployed","chart":"platform-0.1.0","description":"%s"}]' "$2" >"$STATE/release"
    ;;
esac
"""


TOOLS = ("sh", "grep", "cut", "sort", "find", "sha256sum", "dirname", "wc", "sed", "cat")  # of every machine


class Machine:
    """A machine with such programs, and an unpacked bundle."""

    def __init__(self, place: Path, packed: Path) -> None:
        self.folder = unpack(packed, place / "bundle")
        self.place = place
        for name, text in (("bin/kubectl", KUBECTL), ("bin/k3s", CTR), ("bin/helm", HELM)):
            (place / "bin").mkdir(exist_ok=True)
            (place / name).write_text(text)
            (place / name).chmod(0o755)
        (place / "state").mkdir()
        served = place / "state" / "platform.git"
        subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", served], check=True)

    def install(self, *options: str, tools: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
        """Run install.sh; its own bin/helm is replaced by the one that writes down."""
        environment = {
            "PATH": f"{self.place / 'bin'}:{tools}",
            "CALLS": str(self.place / "calls"),
            "STATE": str(self.place / "state"),
            "KUBECONFIG": "/dev/null",
            "HOUSE_STATE_DIR": str(self.place / "none"),
        }
        (self.place / "calls").write_text("")
        return subprocess.run(
            ["sh", str(self.folder / "install.sh"), *options],
            cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def calls(self, program: str = "") -> list[str]:
        """How programs were called in the last run."""
        return [line for line in (self.place / "calls").read_text().splitlines() if line.startswith(program)]

    def reseal(self) -> None:
        """Make the checksums fit again, after an intended change."""
        with (self.folder / "checksums.sha256").open("w") as sums:
            names = sorted(
                str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()
            )  # fmt: skip
            names.remove("checksums.sha256")
            subprocess.run(["sha256sum", *names], cwd=self.folder, stdout=sums, check=True)


@pytest.fixture
def machine(bundles: dict[str, Path], tmp_path: Path) -> Machine:
    machine = Machine(tmp_path, bundles["vm"])
    # helm of the bundle is the first on PATH: here it is the one that writes down
    (machine.folder / "bin/helm").write_text(HELM)
    machine.reseal()
    return machine


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x20  # letters change case, which a careless comparison would not see
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    ["images/images.tar", "images/names", f"charts/platform-{VERSION}.tgz", "values/images-vm.yaml", "values/vm.yaml",
     "requirements.json", "ci/doctor/host.py", "ci/deploy/secrets.py", "bin/helm", "sbom/ui.cdx.json", "LICENSE",
     "checksums.sha256", "argocd/root-vm.yaml", "argocd/offline/install.json", "argocd/offline/git/values/vm.yaml"],
)  # fmt: skip
def test_one_flipped_byte_is_refused_before_anything_is_touched(machine: Machine, name: str) -> None:
    size = (machine.folder / name).stat().st_size
    for at in (0, size // 2, size - 1):
        flip(machine.folder / name, at)
        done = machine.install("--no-doctor")
        assert done.returncode == 1, f"byte {at} of {name}: {done.stdout}"
        assert "REFUSED: " in done.stderr
        assert "copy the bundle again" in done.stderr or "other files than" in done.stderr
        assert machine.calls() == [], f"byte {at} of {name} is flipped, and programs were run"
        flip(machine.folder / name, at)
    assert machine.install("--verify").returncode == 0


def test_flipped_byte_of_the_packed_file_is_seen(bundles: dict[str, Path], tmp_path: Path) -> None:
    for path in bundles["vm"].parent.glob(f"{bundles['vm'].name}*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    check = ["sha256sum", "-c", f"{bundles['vm'].name}.sha256"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    flip(tmp_path / bundles["vm"].name, bundles["vm"].stat().st_size // 2)
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_missing_and_additional_files_are_refused(machine: Machine) -> None:
    (machine.folder / "values/more.yaml").write_text("a: 1\n")
    assert "other files than checksums.sha256 lists" in machine.install("--no-doctor").stderr
    (machine.folder / "values/more.yaml").unlink()
    (machine.folder / "LICENSE").unlink()
    done = machine.install("--no-doctor")
    assert (done.returncode, "LICENSE" in done.stderr) == (1, True)
    assert machine.calls() == []


def test_sbom_of_another_image_is_refused(machine: Machine) -> None:
    shutil.copyfile(machine.folder / "sbom/mlflow.cdx.json", machine.folder / "sbom/ui.cdx.json")
    machine.reseal()
    done = machine.install("--no-doctor")
    assert (done.returncode, "sbom/ui.cdx.json belongs to another image" in done.stderr) == (1, True)
    assert machine.calls() == []


def test_verify_touches_nothing(machine: Machine) -> None:
    done = machine.install("--verify")
    assert (done.returncode, machine.calls()) == (0, [])
    assert "files are as they were when the bundle was made" in done.stdout


def test_program_that_is_missing_or_too_old_is_named_before_anything_is_touched(machine: Machine) -> None:
    (machine.place / "bin/python3").write_text(
        "#!/bin/sh\n[ $1 != --version ] || echo Python 3.6.8\n[ $1 = --version ]\n"
    )
    (machine.place / "bin/python3").chmod(0o755)
    for options in ([], ["--images"]):
        done = machine.install("--no-doctor", *options)
        assert (done.returncode, done.stderr) == (
            1, "REFUSED: Python 3.6.8 is too old: 3.9 or newer is needed as python3\n",
        )  # fmt: skip
    for name in ("kubectl", "python3"):
        (machine.place / "bin" / name).unlink(missing_ok=True)
        tools = machine.place / f"without-{name}"
        tools.mkdir()
        for tool in (*TOOLS, "python3"):
            if tool != name:
                (tools / tool).symlink_to(str(shutil.which(tool)))
        done = machine.install("--no-doctor", tools=str(tools))
        assert (done.returncode, f"REFUSED: {name} is not installed here" in done.stderr) == (1, True), done.stderr
    assert machine.calls() == []


def test_doctor_that_fails_stops_the_install(machine: Machine) -> None:
    needs = json.loads((machine.folder / "requirements.json").read_text())
    (machine.folder / "requirements.json").write_text(json.dumps({**needs, "cpu": 10000.0, "data_api": ""}))
    machine.reseal()
    done = machine.install()
    assert done.returncode == 1
    assert "-> give the machine 10000 processors" in done.stdout
    assert "fix the lines with FAIL, or use --no-doctor" in done.stderr
    changes = ("k3s ctr -n k8s.io images import", "helm upgrade", "kubectl create")
    assert [call for what in changes for call in machine.calls(what)] == []


@pytest.mark.parametrize(
    ("nodes", "flag"),
    [("192.0.2.7 ", ""), ("192.0.2.7 192.0.2.8 fd00::8 ", " --set global.nodes.cidr={192.0.2.7/32,192.0.2.8/32}")],
    ids=["one", "two, dual stack"],
)
def test_release_knows_every_node_where_there_are_several(machine: Machine, nodes: str, flag: str) -> None:
    (machine.place / "state/nodes").write_text(nodes)
    assert machine.install("--no-doctor").returncode == 0
    [upgrade] = machine.calls("helm upgrade")
    _, cidr, rest = upgrade.partition("global.kubeApi.cidr=192.0.2.7/32")
    assert cidr + rest == (
        "global.kubeApi.cidr=192.0.2.7/32 --set global.kubeApi.port=6443"
        + flag
        + " --set monitoring.grafana.enabled=false"
    )


def test_images_are_imported_and_the_release_is_installed_with_the_cluster_s_address(machine: Machine) -> None:
    done = machine.install("--no-doctor")
    assert done.returncode == 0, done.stderr
    assert machine.calls("k3s ctr -n k8s.io images import") == ["k3s ctr -n k8s.io images import images/images.tar"]
    pinned = machine.calls("k3s ctr -n k8s.io images label")
    assert len(pinned) == 2 * len((machine.folder / "images/names").read_text().split()), "by tag, and by digest"
    [upgrade] = machine.calls("helm upgrade")
    assert upgrade.startswith(
        f"helm upgrade --install mlops charts/platform-{VERSION}.tgz -n mlops --description bundle "
    )
    assert upgrade.endswith(
        "-f values/vm.yaml -f values/images-vm.yaml --set global.kubeApi.cidr=192.0.2.7/32 "
        "--set global.kubeApi.port=6443 --set monitoring.grafana.enabled=false"
    )
    created = machine.calls("kubectl create -f -")
    assert len(created) == 1, "Secrets are not made"
    assert machine.calls("kubectl -n mlops rollout status") == [
        "kubectl -n mlops rollout status deployment.apps/mlflow --timeout=420s"
    ]
    order = [next(i for i, line in enumerate(machine.calls()) if line.startswith(what))
             for what in ("k3s ctr -n k8s.io images import", "kubectl create", "helm upgrade")]  # fmt: skip
    assert order == sorted(order)


def test_import_that_does_not_bring_the_images_is_found_out(machine: Machine) -> None:
    (machine.place / "bin/k3s").write_text(CTR.replace("images import'", "nothing'"))
    done = machine.install("--no-doctor")
    assert done.returncode == 1
    assert "containerd imported the archive but still lacks ghcr.io/house-platform/" in done.stderr
    assert machine.calls("helm upgrade") == []


def test_the_same_bundle_again_imports_and_installs_nothing(machine: Machine) -> None:
    machine.install("--no-doctor")
    done = machine.install("--no-doctor")
    assert done.returncode == 0, done.stderr
    assert "nothing changed" in done.stdout
    assert machine.calls("k3s ctr -n k8s.io images import") == machine.calls("helm upgrade") == []
    assert len(machine.install("--no-doctor", "--again").stdout) > 0
    assert len(machine.calls("helm upgrade")) == 1


def test_the_same_bundle_again_restores_a_missing_object(machine: Machine) -> None:
    machine.install("--no-doctor")
    policy = {"apiVersion": "v1", "kind": "NetworkPolicy", "metadata": {"name": "postgres", "namespace": "mlops"}}
    (machine.place / "state/manifest").write_text(json.dumps(policy))
    done = machine.install("--no-doctor")
    assert done.returncode == 0, done.stderr
    assert "NetworkPolicy/postgres is missing\n==> restoring the objects above\n" in done.stdout
    assert len(machine.calls("helm upgrade")) == 1


def test_a_bundle_with_other_content_is_installed_over_it(machine: Machine) -> None:
    machine.install("--no-doctor")
    with (machine.folder / "values/vm.yaml").open("a") as values:
        values.write("# changed\n")
    machine.reseal()
    machine.install("--no-doctor")
    assert len(machine.calls("helm upgrade")) == 1


def test_images_alone_for_a_further_node(machine: Machine) -> None:
    done = machine.install("--images", "--no-doctor")
    assert done.returncode == 0, done.stderr
    assert len(machine.calls("k3s ctr -n k8s.io images import")) == 1
    assert machine.calls("helm") == machine.calls("kubectl") == []


@pytest.mark.parametrize(
    ("repository", "option", "advice"),
    [(apply.GIT_URL, "--again", "own Git server: ./install.sh --argocd"),
     ("https://git.example/house", "--again", "from https://git.example/house: commit the new images file there"),
     ("https://git.example/house", "--argocd", "from https://git.example/house: commit the new images file there")],
)  # fmt: skip
def test_platform_that_argocd_delivers_from_elsewhere_is_left_alone(
    machine: Machine, repository: str, option: str, advice: str
) -> None:
    (machine.place / "state/argocd").write_text(f"{repository}\n")
    done = machine.install("--no-doctor", option)
    assert (done.returncode, advice in done.stderr) == (1, True), done.stderr
    assert machine.calls("helm upgrade") == machine.calls("k3s ctr -n k8s.io images import") == []


def served(machine: Machine, *words: str) -> list[str]:
    """Output of Git for the cluster's repository."""
    command = ["git", "-C", machine.place / "state/platform.git", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_with_argocd_its_git_server_gets_charts_and_values_and_the_root_the_cluster_s_address(machine: Machine) -> None:
    done = machine.install("--no-doctor", "--argocd")
    assert done.returncode == 0, done.stdout + done.stderr
    tree = machine.folder / "argocd/offline/git"
    assert set(served(machine, "ls-tree", "-r", "--name-only", "main")) == {
        str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()
    }
    for name in ("charts/platform/Chart.yaml", "charts/monitoring/values.schema.json", "values/images-vm.yaml"):
        assert "\n".join(served(machine, "show", f"main:{name}")) == (tree / name).read_text().rstrip("\n")
    applied = [item for line in (machine.place / "state/applied").read_text().splitlines() if line
               for item in json.loads(line)["items"]]  # fmt: skip
    kinds = [item["kind"] for item in applied]
    assert kinds[0] == "Namespace"
    assert kinds[-3:] == ["AppProject", "AppProject", "Application"]
    root = applied[-1]["spec"]["source"]
    assert root["repoURL"] == root["helm"]["valuesObject"]["argocd"]["repoUrl"] == apply.GIT_URL
    parameters = {one["name"]: one["value"] for one in root["helm"]["parameters"]}
    assert (parameters["global.kubeApi.cidr"], parameters["global.kubeApi.port"]) == ("192.0.2.7/32", "6443")
    assert parameters["monitoring.grafana.enabled"] == "false", "the value of --set overrides the values file"
    assert machine.calls("helm upgrade") == []
    order = [next(i for i, line in enumerate(machine.calls()) if what in line)
             for what in ("images import", "kubectl create", "get crd", "fast-import", "annotate")]  # fmt: skip
    assert order == sorted(order)


def test_the_branch_moves_forward_and_only_with_another_bundle(machine: Machine) -> None:
    machine.install("--no-doctor", "--argocd")
    [first] = served(machine, "rev-list", "main")
    (machine.place / "state/argocd").write_text(f"{apply.GIT_URL}\n")
    assert machine.install("--no-doctor", "--argocd").returncode == 0
    assert served(machine, "rev-list", "main") == [first]
    (machine.folder / "argocd/offline/git/values/vm.yaml").write_text("# Größer\na: 1\n")
    (machine.folder / "argocd/offline/git/charts/lib/README.md").unlink()
    machine.reseal()
    assert machine.install("--no-doctor", "--argocd").returncode == 0
    second, parent = served(machine, "rev-list", "main")
    assert (parent, second != first) == (first, True)
    assert served(machine, "show", "main:values/vm.yaml") == ["# Größer", "a: 1"]
    assert "charts/lib/README.md" not in served(machine, "ls-tree", "-r", "--name-only", "main")


def test_bundle_without_argocd_says_so_before_anything_is_touched(machine: Machine) -> None:
    shutil.rmtree(machine.folder / "argocd/offline")
    machine.reseal()
    done = machine.install("--no-doctor", "--argocd")
    assert (done.returncode, "this bundle was made without Argo CD" in done.stderr) == (1, True)
    assert machine.calls("k3s ctr -n k8s.io images import") == []


def test_help_and_unknown_options(machine: Machine) -> None:
    assert "./install.sh --verify" in machine.install("--help").stdout
    assert "there is no option --froce" in machine.install("--froce").stderr
    assert machine.calls() == []


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox sh"])
def test_every_shell_can_read_it(machine: Machine, shell: str) -> None:
    if not shutil.which(shell.split()[0]):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([*shell.split(), "-n", str(machine.folder / "install.sh")], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
