"""What a trading platform keeps in Redis, exact and atomic. Extra ``trading``."""

from __future__ import annotations

from redisutils.trading.errors import InvalidValue, TradingError, UnreadableRecord

__all__ = ["InvalidValue", "TradingError", "UnreadableRecord"]
