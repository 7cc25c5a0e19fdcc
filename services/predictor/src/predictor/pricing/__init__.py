"""From a request body to prices and explanations. Imports neither `http`, nor `serving`, nor `record`."""
