"""What a pool shows to the world. Nothing is imported here: some modules need an extra.

=========== ==================================================================================
module      what it is
=========== ==================================================================================
reading     a pool's snapshot, from any thread and at any time
catalogue   every exported metric: its name, unit and meaning
samples     where its values are read from
prometheus  a collector for prometheus_client, and ``/metrics`` as bytes (extra ``prometheus``)
text        Prometheus' text format
otel        OpenTelemetry: ``instrument(pool)`` (extra ``otel``)
instruments its metrics
tracing     its spans
frame       what is drawn each second, made of two snapshots
facts       what the server says of itself
checks      the health checks behind the frames
feed        makes the frames, once for all who watch
app         ``monitor_app(pool)``: all of it over HTTP, and the dashboard (extra ``monitor``)
access      who may look: the token, and sessions for browsers
guard       what every answer has, and what no request may do
stream      the frames over server-sent events
probing     the pool's health for those who ask over HTTP
files       the dashboard's files, which are in ``page/``
=========== ==================================================================================
"""
