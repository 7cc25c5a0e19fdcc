"""Gets a batch from the data API: the call, and the parsing of the response body."""
