"""Programs that build, install and check the platform; each is `python -m ci.<name> --help`."""
