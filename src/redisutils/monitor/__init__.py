"""A pool seen from outside: health, metrics and a live dashboard over HTTP.

========== ===================================================================================
module     what it is
========== ===================================================================================
frame      what is drawn each second, made of two snapshots of a pool's metrics
feed       makes the frames, once for all who watch
facts      what the server says of itself
app        ``monitor_app(pool)``: an ASGI application (extra ``monitor``)
========== ===================================================================================
"""
