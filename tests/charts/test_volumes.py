"""A pod does not start if a volume names a ConfigMap, or a key of it, that does not exist."""

from __future__ import annotations

from collections.abc import Iterator

from tests.kit.rendering import Object, Workload, find, objects, workloads

FROM_KUBERNETES = {"kube-root-ca.crt"}  # in every namespace


def config_maps(workload: Workload) -> Iterator[tuple[str, list[str]]]:
    """Name and keys of each ConfigMap in the volumes of a workload; no keys means all."""
    for volume in workload.pod.get("volumes", []):
        sources: list[Object] = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            if config_map := source.get("configMap"):
                keys = [item["key"] for item in config_map.get("items", [])]
                yield config_map.get("name", ""), keys


def test_config_maps_of_volumes_exist_with_their_keys(variant: str) -> None:
    checked = 0
    for workload in workloads(variant):
        for name, keys in config_maps(workload):
            if name in FROM_KUBERNETES:
                continue
            data = find(objects(variant), "ConfigMap", name, workload.namespace)["data"]
            assert set(keys) <= set(data), f"{workload}: the ConfigMap {name} lacks {set(keys) - set(data)}"
            checked += 1
    assert checked > 3
