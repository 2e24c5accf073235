"""Market data: quotes, books, trades and bars."""
