"""Stands in for redis-py's build backend while pip downloads its source distribution."""
