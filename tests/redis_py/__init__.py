"""redis-py's own asyncio tests, run on our client.

``python -m tests.redis_py`` fetches the source distribution of the installed redis-py from the
package index, runs its tests with ``redis.asyncio.Redis`` replaced by ``redisutils.Redis`` on
real servers, and compares the outcome with redis-py's own. Nothing of redis-py is kept here.

    source.py      gets and unpacks the tests
    standin/       answers pip's question about metadata, so that nothing has to be built
    selection.py   which tests are run, and the reason for each one that is not
    servers.py     a private server per job
    inside/        the pytest plugin that works inside the run
    report.py      what is printed
    jobs.py        runs pytest processes and reads what they report
    verdict.py     the comparison: what passes with redis-py must pass with ours
    baseline.py    the stored list of what passes with redis-py, per server
"""
