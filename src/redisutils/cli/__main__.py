"""``python -m redisutils.cli`` does what ``redisutils`` does."""

from redisutils.cli import main

if __name__ == "__main__":
    main()
