"""The transport of HTTP clients. It loads the certificate authorities, which takes 40 ms, once per process."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


def http_transport(retries: int) -> httpx.HTTPTransport:
    """A transport that tries up to `retries` times more to connect. It has connections of its own."""
    return httpx.HTTPTransport(verify=_certificate_authorities(), retries=retries)


@cache
def _certificate_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()
