"""The layout of the object store: builds the key of every object.

    raw/0003-<sha256>.parquet             a batch as the data API sent it
    quarantine/0003.parquet               its rows that broke a rule
    reports/0003.json, .html              its validation report
    fingerprints/0003.parquet             a hash of each of its valid rows
    clean/0003/train.parquet              its clean rows, one object per split
    encoded/0003/train.npz                these rows as numbers, see pipeline.training.encoded
    profiles/<profile>/0003-<sha256>.parquet   its distribution, see pipeline.decision.drift
    search/<name>.json                    the trials of a search for parameters
    platform.json                         the platform that owns the store, see pipeline.ownership
    probe                                 written before each call of the data API, see pipeline.stages.fetch

Batch numbers have at least four digits, so that keys sort by number. A sha256 in a key has its first twelve digits.
"""

from __future__ import annotations

REPORTS = "reports/"
FINGERPRINTS = "fingerprints/"
PROBE = "probe"
PLATFORM = "platform.json"
RAW = "raw/"


def raw_key(number: int, sha256: str) -> str:
    """Key of a batch as the data API sent it. Each content of a batch number has a key of its own."""
    return f"{RAW}{_content(number, sha256)}.parquet"


def quarantine_key(number: int) -> str:
    """Key of the rows of a batch that broke a rule."""
    return f"quarantine/{number:04d}.parquet"


def report_key(number: int, kind: str) -> str:
    """Key of the validation report on a batch; `kind` is `json` or `html`."""
    return f"{REPORTS}{number:04d}.{kind}"


def fingerprints_key(number: int) -> str:
    """Key of the hashes of a batch's valid rows."""
    return f"{FINGERPRINTS}{number:04d}.parquet"


def clean_key(number: int, split: str) -> str:
    """Key of one split of a batch's clean rows."""
    return f"clean/{number:04d}/{split}.parquet"


def encoded_key(number: int, split: str) -> str:
    """Key of one split of a batch's clean rows as numbers."""
    return f"encoded/{number:04d}/{split}.npz"


def profile_key(profile: int, number: int, sha256: str) -> str:
    """Key of the profile of a batch's content. `profile` is the version of its bins, so other bins have other keys."""
    return f"profiles/{profile}/{_content(number, sha256)}.parquet"


def search_key(name: str) -> str:
    """Key of the trials of a search for parameters."""
    return f"search/{name}.json"


def _content(number: int, sha256: str) -> str:
    return f"{number:04d}-{sha256[:12]}"
