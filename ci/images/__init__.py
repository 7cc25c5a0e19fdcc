"""Every image of this repository, built from package registries alone and only when its inputs changed."""
