"""The one definition of features, used by training and by serving. Knows listings; knows no model, store or service.

`columns` names the features, `formulas` computes them, `encodings` holds the fitted effects of places, and `matrix`
puts them together. `sums` and `regression` fit the encodings; `training` builds the features of training rows.
"""
