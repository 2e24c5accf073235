"""What a pool shows to the world. Each module needs its own extra, and nothing is imported here.

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
=========== ==================================================================================
"""
