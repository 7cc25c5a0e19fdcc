"""Signatures of bundles with real keys. Each wrong one is refused before anything of the bundle is unpacked or run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci.bundle import make as makes
from ci.bundle.sign import NAMESPACE, sign, signature
from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from tests.bundle.archives import argocd
from tests.bundle.conftest import SETTINGS
from tests.kit.bundles import unpack

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")

CHECK = CHECKOUT / "ci/bundle/signature.sh"
NAME = "house-platform-1-aaa-vm"


@dataclass(frozen=True)
class Publisher:
    """A key pair, and the file that allows it."""

    key: Path
    signers: Path


def publisher(folder: Path, *options: str, principal: str = "house-platform", purpose: str = NAMESPACE) -> Publisher:
    folder.mkdir(parents=True)
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key, *options], check=True)
    public = key.with_suffix(".pub").read_text()
    (folder / "allowed_signers").write_text(f'{principal} namespaces="{purpose}" {public}')
    return Publisher(key, folder / "allowed_signers")


@pytest.fixture
def house(tmp_path: Path) -> Publisher:
    return publisher(tmp_path / "house")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A file in the place of a bundle."""
    file = tmp_path / f"{NAME}.tar.gz"
    file.write_bytes(bytes(range(256)) * 50)
    return file


def check(packed: Path, signers: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", CHECK, packed, signers],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x20
    path.write_bytes(content)


@pytest.mark.parametrize("kind", [(), ("-t", "ecdsa"), ("-t", "rsa")], ids=["ed25519", "ecdsa", "rsa"])
def test_signature_of_the_publisher_is_accepted(kind: tuple[str, ...], packed: Path, tmp_path: Path) -> None:
    house = publisher(tmp_path / "house", *kind)
    assert sign(packed, house.key) == signature(packed) == packed.with_name(f"{packed.name}.sig")
    done = check(packed, house.signers)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'==> {packed.name}: Good "house-platform-bundle" signature for house-platform with ')


def test_the_commands_of_the_documentation_sign_and_check(packed: Path, house: Publisher) -> None:
    subprocess.run(["ssh-keygen", "-Y", "sign", "-f", house.key, "-n", "house-platform-bundle", packed],
                   check=True, capture_output=True)  # fmt: skip
    by_hand = signature(packed).read_bytes()
    assert check(packed, house.signers).returncode == 0
    assert sign(packed, house.key).read_bytes() == by_hand, "the same key and bytes give the same signature"
    words = ["ssh-keygen", "-Y", "verify", "-f", house.signers, "-I", "house-platform", "-n", "house-platform-bundle"]
    with packed.open("rb") as content:
        done = subprocess.run([*words, "-s", signature(packed)], stdin=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_changed_byte_is_refused(packed: Path, house: Publisher) -> None:
    sign(packed, house.key)
    for at in (0, packed.stat().st_size // 2, packed.stat().st_size - 1):
        flip(packed, at)
        done = check(packed, house.signers)
        assert (done.returncode, f"REFUSED: {packed} is not the file that was signed" in done.stderr) == (1, True)
        flip(packed, at)
    with packed.open("ab") as file:
        file.write(b"\0")
    assert check(packed, house.signers).returncode == 1


def test_damaged_and_empty_signatures_are_refused(packed: Path, house: Publisher) -> None:
    sign(packed, house.key)
    flip(signature(packed), signature(packed).stat().st_size // 2)
    assert "or its signature is damaged: copy both again" in check(packed, house.signers).stderr
    signature(packed).write_text("")
    assert check(packed, house.signers).returncode == 1


def test_signature_of_another_key_is_refused(packed: Path, house: Publisher, tmp_path: Path) -> None:
    other = publisher(tmp_path / "other")
    sign(packed, other.key)
    done = check(packed, house.signers)
    assert done.returncode == 1
    assert f"signed by a key that {house.signers} does not allow for house-platform: do not unpack it" in done.stderr


@pytest.mark.parametrize(
    ("principal", "purpose"),
    [("somebody-else", NAMESPACE), ("house-platform", "git")],
    ids=["another name", "another purpose"],
)
def test_key_is_allowed_for_the_publisher_and_for_bundles_only(
    principal: str, purpose: str, packed: Path, tmp_path: Path
) -> None:
    other = publisher(tmp_path / "other", principal=principal, purpose=purpose)
    sign(packed, other.key)
    assert check(packed, other.signers).returncode == 1


def test_signature_for_another_purpose_is_refused(packed: Path, tmp_path: Path) -> None:
    house = publisher(tmp_path / "house", purpose="git,house-platform-bundle")
    subprocess.run(["ssh-keygen", "-Y", "sign", "-f", house.key, "-n", "git", packed], check=True, capture_output=True)
    assert check(packed, house.signers).returncode == 1


def test_each_of_several_lines_allows_a_key_and_an_expired_one_does_not(
    packed: Path, house: Publisher, tmp_path: Path
) -> None:
    second = publisher(tmp_path / "second")
    lines = house.signers.read_text() + second.signers.read_text()
    house.signers.write_text(f"# keys of the publisher\n{lines}")
    for key in (house.key, second.key):
        sign(packed, key)
        assert check(packed, house.signers).returncode == 0
    house.signers.write_text(lines.replace("namespaces=", 'valid-before="20200101",namespaces='))
    assert check(packed, house.signers).returncode == 1


def test_missing_files_and_tool_are_named(packed: Path, house: Publisher, tmp_path: Path) -> None:
    done = check(packed, house.signers)
    assert (done.returncode, done.stderr.startswith(f"REFUSED: {packed} has no signature: copy {packed}.sig ")) == (
        1, True,
    )  # fmt: skip
    sign(packed, house.key)
    done = check(packed, tmp_path / "none")
    assert (done.returncode, f"the allowed-signers file {tmp_path}/none cannot be read" in done.stderr) == (1, True)
    done = check(tmp_path / "gone.tar.gz", house.signers)
    assert (done.returncode, "gone.tar.gz cannot be read" in done.stderr) == (1, True)
    done = check(packed, house.signers, PATH=str(tmp_path))
    message = (
        "REFUSED: ssh-keygen is not installed here, so the signature cannot be checked: install the OpenSSH client\n"
    )
    assert (done.returncode, done.stderr) == (1, message)


def test_bundle_is_not_signed_without_a_usable_key(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Failure, match=f"{packed.name} is not signed: ssh-keygen cannot sign with "):
        sign(packed, packed)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="ssh-keygen is not installed"):
        sign(packed, tmp_path / "key")
    assert not signature(packed).exists()


def test_missing_key_is_an_error_before_a_bundle_is_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ci.bundle", "--env", "vm", "--output", tmp_path / "made", "--sign-with"]
    done = subprocess.run([*command, tmp_path / "none"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, f"the signing key {tmp_path}/none does not exist" in done.stderr) == (1, True)
    assert not (tmp_path / "made").exists()


def test_new_bundle_has_no_signature_of_an_earlier_one(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_CACHE_DIR", str(tmp_path / "cache"))
    source = argocd(tmp_path / "argocd")
    made = makes.make("vm", tmp_path / "made", SETTINGS, lock, lock.parent, source)
    signature(made).write_text("old")
    assert makes.make("vm", tmp_path / "made", SETTINGS, lock, lock.parent, source) == made
    assert not signature(made).exists()


class Delivery:
    """A machine with a real bundle: the archive, and its unpacked folder beside it."""

    def __init__(self, packed: Path, place: Path) -> None:
        place.mkdir()
        self.packed = place / packed.name
        shutil.copyfile(packed, self.packed)
        self.folder = unpack(packed, place / "unpacked").rename(place / packed.name.partition(".tar.")[0])
        self.ran = place / "ran"  # written by every program that runs before the bundle is accepted
        self.bin = place / "bin"
        self.bin.mkdir()
        for name in ("python3", "kubectl", "helm", "k3s"):
            (self.bin / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{self.ran}\n')
            (self.bin / name).chmod(0o755)

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        return subprocess.run(["sh", self.folder / "install.sh", *options], cwd=self.packed.parent, env=environment,
                              capture_output=True, text=True, check=False, timeout=120)  # fmt: skip

    def refused(self, *options: str) -> str:
        """The message of a refusal, before any program of the machine or of the bundle ran."""
        done = self.install("--no-doctor", *options)
        assert done.returncode == 1, done.stdout
        assert "REFUSED: " in done.stderr
        assert not self.ran.exists(), self.ran.read_text()
        return done.stderr


@pytest.fixture
def delivery(bundles: dict[str, Path], tmp_path: Path) -> Delivery:
    return Delivery(bundles["vm"], tmp_path / "machine")


def test_installer_accepts_the_publisher_and_says_when_nobody_asked(delivery: Delivery, house: Publisher) -> None:
    done = delivery.install("--verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("==> signature not checked: checksums show damage, but not who made this bundle ")
    sign(delivery.packed, house.key)
    done = delivery.install("--verify", f"--signer={house.signers}")
    assert done.returncode == 0, done.stderr
    assert 'Good "house-platform-bundle" signature for house-platform' in done.stdout
    assert "signature not checked" not in done.stdout
    relative = os.path.relpath(house.signers, delivery.packed.parent)
    assert delivery.install("--verify", f"--signer={relative}").returncode == 0


def test_installer_refuses_a_missing_and_a_foreign_signature(
    delivery: Delivery, house: Publisher, tmp_path: Path
) -> None:
    assert "has no signature" in delivery.refused(f"--signer={house.signers}")
    sign(delivery.packed, publisher(tmp_path / "other").key)
    assert "signed by a key that" in delivery.refused(f"--signer={house.signers}")


def test_installer_refuses_a_folder_that_is_not_of_the_signed_archive(delivery: Delivery, house: Publisher) -> None:
    sign(delivery.packed, house.key)
    (delivery.folder / "LICENSE").write_text("changed\n")
    assert "copy the bundle again" in delivery.refused(f"--signer={house.signers}")
    sums = [line for line in (delivery.folder / "checksums.sha256").read_text().splitlines() if "  LICENSE" not in line]
    new = subprocess.run(["sha256sum", "LICENSE"], cwd=delivery.folder, check=True, capture_output=True, text=True)
    (delivery.folder / "checksums.sha256").write_text("\n".join([*sums, new.stdout]))
    assert delivery.install("--verify").returncode == 0, "the checksums alone show nothing"
    assert "checksums.sha256 differs from the one in" in delivery.refused(f"--signer={house.signers}")


def test_installer_finds_the_archive_or_is_given_it(delivery: Delivery, house: Publisher, tmp_path: Path) -> None:
    sign(delivery.packed, house.key)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (delivery.packed, signature(delivery.packed)):
        path.rename(elsewhere / path.name)
    assert "--archive=FILE names it" in delivery.refused(f"--signer={house.signers}")
    archive = f"--archive={elsewhere / delivery.packed.name}"
    assert delivery.install("--verify", f"--signer={house.signers}", archive).returncode == 0


@pytest.mark.parametrize("option", ["--signer", "--signer=", "--archive="])
def test_option_without_a_file_is_not_taken_for_no_check(delivery: Delivery, option: str) -> None:
    assert f"{option.rstrip('=')} needs a file" in delivery.refused(option)


def test_no_program_of_the_folder_runs_before_the_folder_is_checked(delivery: Delivery, house: Publisher) -> None:
    sign(delivery.packed, house.key)
    for name in ("sha256sum", "ssh-keygen", "tar"):
        (delivery.folder / "bin" / name).write_text(f"#!/bin/sh\necho {name} >>{delivery.ran}\n")
        (delivery.folder / "bin" / name).chmod(0o755)
    for options in ((), (f"--signer={house.signers}",)):
        assert "this folder has other files than checksums.sha256 lists" in delivery.refused(*options)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile, and with a bundle in build/ whose installer prints its options."""
    place = tmp_path / "checkout"
    (place / "ci/bundle").mkdir(parents=True)
    shutil.copy(CHECKOUT / "Makefile", place)
    shutil.copy(CHECK, place / "ci/bundle")
    (place / "build").mkdir()
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "install.sh").write_text('#!/bin/sh\necho installed "$@"\n')
    (folder / "install.sh").chmod(0o755)
    with tarfile.open(place / f"build/{NAME}.tar.gz", "w:gz") as whole:
        whole.add(folder, NAME)
    return place


def make(checkout: Path, target: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--silent", "-C", checkout, target, "ENV=vm", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_make_checks_before_it_unpacks(checkout: Path, house: Publisher, tmp_path: Path) -> None:
    bundle = checkout / f"build/{NAME}.tar.gz"
    signer = f"SIGNER={house.signers}"
    for target in ("bundle-verify", "bundle-install"):
        assert "has no signature" in make(checkout, target, signer).stderr
        sign(bundle, publisher(tmp_path / f"other-{target}").key)
        done = make(checkout, target, signer)
        assert (done.returncode != 0, "signed by a key that" in done.stderr) == (True, True)
        assert not (checkout / "build/unpacked").exists()
        signature(bundle).unlink()
    for target, words in (("bundle-verify", ()), ("bundle-install", ("SIGNER=",))):
        assert "REFUSED: no allowed-signers file is named" in make(checkout, target, *words).stderr
    sign(bundle, house.key)
    assert make(checkout, "bundle-verify", signer).returncode == 0
    done = make(checkout, "bundle-install", signer, "ARGS=--again")
    assert done.returncode == 0, done.stderr
    assert f"installed --signer={house.signers} --archive=build/{NAME}.tar.gz --again\n" in done.stdout


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox sh"])
def test_every_shell_can_run_the_check(shell: str, packed: Path, house: Publisher) -> None:
    if not shutil.which(shell.split()[0]):
        pytest.skip(f"{shell} is not installed")
    sign(packed, house.key)
    command = [*shell.split(), str(CHECK), str(packed), str(house.signers)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
