"""Known vulnerabilities of what is in the images: a report, not a gate."""
