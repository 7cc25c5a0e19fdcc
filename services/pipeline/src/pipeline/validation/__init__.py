"""Rules for rows, and the validation report of a batch."""
