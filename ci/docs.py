"""Write charts/<name>/README.md of every chart from Chart.yaml, values.yaml and about.md, or check that it is current.

python -m ci.docs             write them
python -m ci.docs --check     fail if one is not what would be written

`about.md` holds what a person has to say about a chart; everything else is said where it is set: a `# -- ` line above
a key of values.yaml describes that key, and becomes a row of the table.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import yaml

from ci.charts import CHARTS, names
from ci.console import Failure, main, say
from ci.paths import CHECKOUT

GENERATED = "<!-- Written by `make docs` from Chart.yaml, values.yaml and about.md; do not edit. -->"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "list", dict: "object"}
KUBE_API = (
    "global.kubeApi.cidr=$(kubectl -n default get endpointslices -l kubernetes.io/service-name=kubernetes"
    " -o jsonpath='{.items[0].endpoints[0].addresses[0]}')/32"
)


def descriptions(values: str) -> dict[str, str]:
    """Text of each `# -- ` comment of a values.yaml, with the lines that continue it, by the dotted path of its key."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    comment = ""
    for line in values.splitlines():
        if begins := re.match(r" *# -- (.*)", line):
            comment = begins[1]
        elif comment and (continues := re.match(r" *# (.*)", line)):
            comment += f" {continues[1]}"
        elif key := re.match(r"( *)([\w-]+):", line):
            path = [*(parent for parent in path if parent[0] < len(key[1])), (len(key[1]), key[2])]
            if comment:
                found[".".join(name for _, name in path)] = comment
            comment = ""
        else:
            comment = ""
    return found


def rows(values: str) -> list[str]:
    """One row for each described key; a key whose parts are described themselves shows no default."""
    found = descriptions(values)
    defaults = yaml.safe_load(values)
    table = []
    for path, text in found.items():
        value: Any = defaults
        for key in path.split("."):
            value = value[key]
        in_parts = any(other.startswith(f"{path}.") for other in found)
        default = "" if in_parts else f"`{_compact(value)}`"
        table.append(f"| `{path}` | {TYPES[type(value)]} | {default} | {text} |".replace("  |", " |"))
    return table


def _compact(value: object) -> str:
    """A value in one line of YAML."""
    if value == "":
        return '""'
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6).removesuffix("...\n").strip()
    return text.replace("|", "\\|")


def install(name: str) -> list[str]:
    """How a component is installed without the others."""
    calls_kube_api = any("egressKubeApi" in path.read_text() for path in (CHARTS / name / "templates").rglob("*.yaml"))
    command = f".venv/bin/helm install {name} charts/{name} -n mlops -f values/images-kind.yaml"
    said = [
        "## Install it alone",
        "",
        "```sh",
        "make images secrets                       # values/images-kind.yaml; namespaces and Secrets",
        ".venv/bin/python -m ci.images load        # puts the images into a cluster on this machine",
        ".venv/bin/python -m ci.charts deps        # packages charts/lib into each chart",
        "eval $(.venv/bin/python -m ci.cluster env) # kubectl and kubeconfig of a cluster on this machine",
        f'{command} \\\n  --set "{KUBE_API}"' if calls_kube_api else command,
        "```",
        "",
    ]
    if calls_kube_api:
        said += [
            "Its pods call the cluster's API server, and egress rules name addresses: `global.kubeApi.cidr` must be",
            "given, and `global.kubeApi.port` where it is not 6443. `make install` finds both out.",
            "",
        ]
    return said


def facts(chart: dict[str, Any]) -> str:
    """Versions and dependencies of a chart in one sentence."""
    said = [f"Chart {chart['version']}"]
    if chart.get("appVersion", chart["version"]) != chart["version"]:
        said.append(f"application {chart['appVersion']}")
    if needed := chart.get("dependencies", []):
        said.append("depends on " + ", ".join(f"[{one['name']}](../{one['name']}/README.md)" for one in needed))
    return "; ".join(said) + "."


def readme(name: str) -> str:
    """Content of a chart's README.md."""
    chart = yaml.safe_load((CHARTS / name / "Chart.yaml").read_text())
    about, values = CHARTS / name / "about.md", CHARTS / name / "values.yaml"
    component = name not in ("lib", "platform")
    lines = [GENERATED, f"# {name}", "", f"{chart['description']}.", "", facts(chart), ""]
    lines += [about.read_text().strip(), ""] if about.exists() else []
    lines += install(name) if component else []
    if values.exists():
        lines += ["## Values", ""]
        if component:
            lines += ["All charts share those under `global`: see [platform](../platform/README.md#values).", ""]
        lines += ["| key | type | default | what it does |", "|---|---|---|---|", *rows(values.read_text()), ""]
    return "\n".join(lines)


def generated() -> dict[Path, str]:
    """Content of every README, by its path."""
    return {CHARTS / name / "README.md": readme(name) for name in names()}


def outdated() -> list[str]:
    """READMEs that are missing or not what would be written."""
    wanted = generated()
    wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return [str(path.relative_to(CHECKOUT)) for path in wrong]


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.docs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    if parser.parse_args().check:
        if wrong := outdated():
            raise Failure("not current: " + ", ".join(wrong) + "; run `make docs` and commit the result")
        return
    wrong = outdated()
    for path, text in generated().items():
        path.write_text(text)
    say(f"wrote {', '.join(wrong)}" if wrong else "every README of the charts was current")


if __name__ == "__main__":
    main(_main)
