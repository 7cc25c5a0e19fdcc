"""Decides whether a batch is worth a training: drift measures, evidence, policy, and the document of the decision."""
