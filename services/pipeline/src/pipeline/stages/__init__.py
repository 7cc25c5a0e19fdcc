"""The stages of the pipeline, one module each, with one `run` each. Stages never import each other."""
