"""Computes what an environment requires of a machine and a cluster, from its rendered charts.

python -m ci.doctor.rendered --env vm > requirements.json     for `python -m ci.doctor --requirements`
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from ci.common.console import Failure, main
from ci.common.environments import known_env
from ci.common.git import git
from ci.common.kube import JOBS, PLATFORM, Object
from ci.common.manifest import parse
from ci.common.paths import CHECKOUT
from ci.deploy import charts, notifications, secrets
from ci.doctor.requirements import Requirements
from ci.images import values
from ci.images.catalog import IMAGES

UNITS = {"": 1, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
LOCKS = {"server": ("mlflow", "mlflow"), "pipeline": ("pipeline", "mlflow-skinny")}


def quantity(text: str | int | float) -> float:
    """Parse a Kubernetes quantity. Examples: `500m`, `2Gi`."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    if not match or match[2] not in UNITS:
        raise Failure(f"{text!r} is not a quantity")
    return float(match[1]) * UNITS[match[2]]


def render(env: str, lock: Path, settings: Sequence[str] = ()) -> list[Object]:
    """All objects of an environment. Without a file of its images, their tag is `unknown`."""
    charts.dependencies()
    words = ["-f", str(CHECKOUT / "values" / f"{env}.yaml"), "--set", "global.kubeApi.cidr=192.0.2.1/32"]
    if lock.exists():
        words += ["-f", str(lock)]
    else:
        words += [word for name in IMAGES for word in ("--set", f"global.images.{name}.tag=unknown")]
    manifest = charts.template("platform", *words, *(word for one in settings for word in ("--set", one)))
    return parse(manifest)


def pod_spec(item: Object) -> Object:
    """Pod spec of an object; {} if it creates no pods."""
    spec = item.get("spec", {})
    pod: Object = spec if item["kind"] == "Pod" else spec.get("template", {}).get("spec", {})
    return pod


def images(objects: list[Object]) -> list[str]:
    """All images of objects: of containers, init containers, tests, and pods that Airflow creates."""
    names = {str(value) for item in objects for key, value in _leaves(item) if _names_image(key)}
    return sorted(names)


def _names_image(key: str) -> bool:
    return key == "image" or key.endswith("_IMAGE")


def _leaves(thing: object, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(thing, dict):
        for name, value in thing.items():
            yield from _leaves(value, str(name))
    elif isinstance(thing, list):
        for value in thing:
            yield from _leaves(value, key)
    elif thing:
        yield key, thing


def requirements(env: str, lock: Path | None = None, settings: Sequence[str] = ()) -> Requirements:
    """Compute the requirements of an environment. `lock`: another file of its images; `settings`: like helm --set.

    Raises:
        Failure: there is no such environment, or the charts refuse its values.
    """
    known_env(env)
    file = lock or values.file(env)
    objects = render(env, file, settings)
    made = {f"{space}/{name}": keys for (space, name), keys in secrets.generate(PLATFORM, JOBS).items()}
    hosts, certificates = _ingresses(objects)
    claims = [*_claims(objects)]
    config = next((dict(_leaves(item)) for item in objects if "DATA_API_URL" in dict(_leaves(item))), {})
    stand_in = any(item["kind"] == "Deployment" and item["metadata"]["name"] == "datasource" for item in objects)
    return Requirements(
        env=env,
        made=float(git(CHECKOUT, "log", "-1", "--format=%ct", check=False) or 0),
        images=images(objects) if file.exists() else [],
        images_missing="" if file.exists() else f"values/{file.name}",
        cpu=round(_requests(objects, "cpu"), 3),
        memory=int(_requests(objects, "memory")),
        volumes=int(sum(quantity(claim["resources"]["requests"]["storage"]) for claim in claims)),
        storage_classes=sorted({claim.get("storageClassName", "") for claim in claims}),
        secrets=sorted(made),
        secret_keys=sorted(f"{name}/{key}" for name, keys in made.items() for key in keys),
        foreign_secrets=sorted(certificates),
        receiver_keys=notifications.keys(objects),
        notifies=notifications.notifies(objects),
        hosts=sorted(hosts),
        data_api="" if stand_in else str(config.get("DATA_API_URL", "")),
        data_api_cidr=_data_api_cidr(env),
        mlflow={name: _locked(*place) for name, place in LOCKS.items()},
    )


def _requests(objects: list[Object], resource: str) -> float:
    """Sum of requests over all long-running pods. Jobs end before the others need the resources."""
    total = 0.0
    scaled = {_named(item["spec"]["scaleTargetRef"]): item["spec"]["minReplicas"]
              for item in objects if item["kind"] == "HorizontalPodAutoscaler"}  # fmt: skip
    for item in objects:
        if item["kind"] != "Job":
            replicas = item.get("spec", {}).get("replicas") or scaled.get(_named(item | item["metadata"]), 1)
            for container in pod_spec(item).get("containers", []):
                wanted = container.get("resources", {}).get("requests", {}).get(resource, 0)
                total += quantity(wanted) * replicas
    return total


def _named(item: Object) -> tuple[str, str]:
    return item["kind"], item["name"]


def _claims(objects: list[Object]) -> Iterator[Object]:
    for item in objects:
        if item["kind"] == "PersistentVolumeClaim":
            yield item["spec"]
        for template in item.get("spec", {}).get("volumeClaimTemplates", []):
            yield template["spec"]


def _ingresses(objects: list[Object]) -> tuple[set[str], set[str]]:
    hosts, certificates = set(), set()
    for item in objects:
        if item["kind"] == "Ingress":
            hosts |= {rule["host"] for rule in item["spec"]["rules"] if "host" in rule}
            names = {one["secretName"] for one in item["spec"].get("tls", []) if "secretName" in one}
            certificates |= {f"{item['metadata']['namespace']}/{name}" for name in names}
    return hosts, certificates


def _data_api_cidr(env: str) -> str:
    own = yaml.safe_load((CHECKOUT / "values" / f"{env}.yaml").read_text())
    return str(own.get("global", {}).get("dataApi", {}).get("cidr", ""))


def _locked(service: str, package: str) -> str:
    lock = CHECKOUT / "services" / service / "requirements.lock"
    match = re.search(rf"^{package}==([\w.]+)", lock.read_text(), re.MULTILINE)
    return match[1] if match else ""


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.doctor.rendered", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment: values/<env>.yaml (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="file to write (default: standard output)")
    options = parser.parse_args()
    text = requirements(options.env).save()
    if options.output:
        options.output.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main(_main)
