"""The model and its bundle of files: prices, prediction intervals and explanations from features. Knows no store."""
