"""An account's ledger: what is decided about its orders and positions is written in groups, each
by one script."""
