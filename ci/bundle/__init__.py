"""Makes one file for a machine without a registry: images, charts, values, installer, doctor, checksums."""
