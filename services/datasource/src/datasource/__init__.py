"""Stand-in for the external data API: the same routes, cursor, end of data and field types."""
