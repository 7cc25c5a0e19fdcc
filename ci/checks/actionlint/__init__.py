"""The checker of GitHub's workflow files."""
