"""``redisutils serve``: a pool's health, metrics and dashboard as a process of its own.

command   the options
run       from the options to the exit code: the token, the signals, the end
hosting   an application over HTTP inside a running event loop; the demo uses it too
"""
