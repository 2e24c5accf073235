"""What passes with redis-py's own client passes with ours, by redis-py's own tests."""

from __future__ import annotations

import faulthandler

import pytest

from . import jobs, report, servers, source, verdict

# With the server that we install ourselves, each way of shaping replies; the other differs in its
# commands only.
PASSES = {"valkey": jobs.PROTOCOLS, "redis": ("default",)}


@pytest.mark.compat
def test_redis_py_tests_pass_with_our_client() -> None:
    # Each job has a limit of its own, and what it failed on is to be seen.
    faulthandler.cancel_dump_traceback_later()
    try:
        folder = source.fetch()
    except source.IndexUnreachable as error:
        pytest.skip(f"redis-py's tests come from the package index, out of reach here: {error}")
    passes = tuple(
        (kind, protocol)
        for kind, protocols in PASSES.items()
        if servers.installed(kind)
        for protocol in protocols
    )
    verdicts = verdict.judge(jobs.Wanted("redisutils", passes), folder, print)
    gaps = verdict.gaps((one.outcome for one in verdicts), folder)
    findings = f"{report.table(verdicts)}\n{report.findings(verdicts, gaps)}"
    assert all(one.good for one in verdicts), findings
    assert not gaps, findings
