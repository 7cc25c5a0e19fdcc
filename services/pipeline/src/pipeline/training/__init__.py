"""Everything that turns clean rows into a model bundle: splits, encoded rows, LightGBM, calibration, search."""
