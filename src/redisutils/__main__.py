"""``python -m redisutils``: the command line, where its program is not on the path."""

from redisutils.cli import main

if __name__ == "__main__":
    main()
