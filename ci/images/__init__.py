"""Builds, packs and publishes the images of this repository. An image is built only if its inputs changed."""
