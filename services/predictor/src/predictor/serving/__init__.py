"""Which model answers: follows an alias of the registry, fetches and tests bundles, and caches them on disk."""
