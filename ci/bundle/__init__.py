"""One file with all that a machine without a registry needs: images, charts, values, installer, doctor, checksums."""
