"""Pages where people ask for a price, read the history of the platform, and see which model answers."""
