"""``redisutils top``: the dashboard's essence in the terminal.

events    server-sent events over HTTP, read with what Python brings
reading   frames from elsewhere, which may hold anything, made fit to be drawn
source    where frames come from: a pool of our own, or a dashboard
screen    a frame and those before it as lines of text
keys      single keys from a terminal
run       showing what comes until it is enough
"""
