"""Positions: what an account holds, what it cost, and what was earned by it."""
