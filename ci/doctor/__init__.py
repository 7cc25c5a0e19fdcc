"""What keeps the platform from running here, each with the command that mends it; Python's standard library alone."""
