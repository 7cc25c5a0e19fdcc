"""Everything that reads or writes the ledger: prediction log, shadow prices, feedback, retention and history."""
