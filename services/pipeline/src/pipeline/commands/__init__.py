"""Commands that a person runs, one module each, with one `run` each."""
