"""What pipeline and predictor share: features, model bundle, storage, registry, ledger, settings, metrics, errors."""
