"""Write charts/<name>/README.md from Chart.yaml, values.yaml and about.md, or check that it is up to date.

python -m ci.checks.docs             write them
python -m ci.checks.docs --check     fail if a README is outdated

`about.md` has the text of the page. A `# -- ` comment above a key of values.yaml describes that key and becomes a row
of the table.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import yaml

from ci.common.chart_schemas import with_descriptions
from ci.common.console import Failure, main, say
from ci.common.paths import CHECKOUT
from ci.deploy.charts import CHARTS, names

GENERATED = "<!-- Written by `make docs` from Chart.yaml, values.yaml and about.md; do not edit. -->"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "list", dict: "object"}
KUBE_API = (
    "global.kubeApi.cidr=$(kubectl -n default get endpointslices -l kubernetes.io/service-name=kubernetes"
    " -o jsonpath='{.items[0].endpoints[0].addresses[0]}')/32"
)


def descriptions(values: str) -> dict[str, str]:
    """Text of each `# -- ` comment of a values.yaml, including its continuation lines, by dotted path of the key."""
    texts: dict[str, str] = {}
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
                texts[".".join(name for _, name in path)] = comment
            comment = ""
        else:
            comment = ""
    return texts


def rows(values: str) -> list[str]:
    """One row for each described key. A key whose parts have descriptions shows no default."""
    texts = descriptions(values)
    defaults = yaml.safe_load(values)
    table = []
    for path, text in texts.items():
        value: Any = defaults
        for key in path.split("."):
            value = value[key]
        in_parts = any(other.startswith(f"{path}.") for other in texts)
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
    """Instructions for installing a component without the others."""
    calls_kube_api = any("egressKubeApi" in path.read_text() for path in (CHARTS / name / "templates").rglob("*.yaml"))
    command = f".venv/bin/helm install {name} charts/{name} -n mlops -f values/images-kind.yaml"
    lines = [
        "## Install it alone",
        "",
        "```sh",
        "make images secrets                       # values/images-kind.yaml; namespaces and Secrets",
        ".venv/bin/python -m ci.images load        # puts the images into a cluster on this machine",
        ".venv/bin/python -m ci.deploy.charts deps # packages charts/lib into each chart",
        "eval $(.venv/bin/python -m ci.cluster env) # kubectl and kubeconfig of a cluster on this machine",
        f'{command} \\\n  --set "{KUBE_API}"' if calls_kube_api else command,
        "```",
        "",
    ]
    if calls_kube_api:
        lines += [
            "Its pods call the cluster's API server, and egress rules name addresses: `global.kubeApi.cidr` must be",
            "given, and `global.kubeApi.port` where it is not 6443. `make install` finds both out.",
            "",
        ]
    return lines


def facts(chart: dict[str, Any]) -> str:
    """Versions and dependencies of a chart in one sentence."""
    parts = [f"Chart {chart['version']}"]
    if chart.get("appVersion", chart["version"]) != chart["version"]:
        parts.append(f"application {chart['appVersion']}")
    if needed := chart.get("dependencies", []):
        parts.append("depends on " + ", ".join(f"[{one['name']}](../{one['name']}/README.md)" for one in needed))
    return "; ".join(parts) + "."


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
    """Content of every README and every values.schema.json, by its path."""
    schemas = {
        path: with_descriptions(path.read_text(), descriptions(path.with_name("values.yaml").read_text()))
        for path in sorted(CHARTS.glob("*/values.schema.json"))
    }
    return {CHARTS / name / "README.md": readme(name) for name in names()} | schemas


def outdated() -> list[str]:
    """READMEs that are missing or outdated."""
    wanted = generated()
    wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return [str(path.relative_to(CHECKOUT)) for path in wrong]


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.checks.docs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    if parser.parse_args().check:
        if wrong := outdated():
            raise Failure("outdated: " + ", ".join(wrong) + "; run `make docs` and commit the result")
        return
    wrong = outdated()
    for path, text in generated().items():
        path.write_text(text)
    say(f"wrote {', '.join(wrong)}" if wrong else "all READMEs of the charts were up to date")


if __name__ == "__main__":
    main(_main)
