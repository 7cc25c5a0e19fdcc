"""Raw listings: the fields of the data API, their types and how rows are parsed. No features, models or stores."""
