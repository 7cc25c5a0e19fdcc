"""The parts of the platform as processes on this machine, for `make demo` and the service tests."""
