"""What no server says about its commands: our own columns of the command table.

``generate_commands.py`` joins these with what live servers report and writes
``src/redisutils/_command_table.py``. Change a judgement here, then run it.

Repeatable
    A command may be sent again after its connection died without an answer only
    if executing it twice in a row has the same effect *and the same reply* as
    executing it once. DEL, SADD, HSET and ZADD do the same thing twice but count
    it differently: a repeated DEL that answers 0 would tell its caller that the
    key had not been there. They are not repeatable.

    Other callers may come between the two executions. So a second one must leave
    what a single, later one would have left: SET overwrites and passes; LSET does
    not, for after somebody's LPUSH the same index is another element, and both
    would have been overwritten.

    A relative time to live restarts at the second execution. That is what one
    execution, delivered a little later, would have done, and no caller can tell
    the two apart; SETEX and SET ... EX are repeatable.

    When in doubt, a command stays out: an honest "unknown" costs its caller
    little. Out for that reason: FLUSHALL, FLUSHDB, FUNCTION FLUSH, SCRIPT FLUSH (they
    destroy, and nobody is hurt by having to ask twice), XGROUP SETID, XSETID,
    everything that administers a cluster, a failover or ACL users.
"""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Option words, looked for from argument ``start`` on (the name is argument 0)."""

    start: int
    words: str


class Fact(NamedTuple):
    """What a server would report of a command, in the words of the table."""

    readonly: bool = False
    blocking: bool = False
    keys: tuple[int, int, int] = (0, 0, 0)
    numkeys: tuple[int, int] | None = None
    after: tuple[tuple[str, int, int, int], ...] = ()
    request: str = ""
    response: str = ""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Reads that the server does not flag "readonly" since they read no key. (What it
# does flag so is repeatable without being listed: reading has no effect.)
PURE_READS = _words("PING ECHO TIME INFO LASTSAVE ROLE COMMAND") | frozenset(
    f"{container} {word}"
    for container, words in {
        # GENPASS draws a new one each time; any of them is as good.
        "ACL": "CAT DRYRUN GENPASS GETUSER HELP LIST USERS WHOAMI",
        "CLIENT": "GETNAME GETREDIR HELP ID INFO LIST TRACKINGINFO",
        "CLUSTER": "COUNT-FAILURE-REPORTS COUNTKEYSINSLOT GETKEYSINSLOT GETSLOTMIGRATIONS HELP INFO"
        " KEYSLOT LINKS MYID MYSHARDID NODES REPLICAS SHARDS SLAVES SLOT-STATS SLOTS",
        "COMMAND": "COUNT DOCS GETKEYS GETKEYSANDFLAGS HELP INFO LIST",
        "COMMANDLOG": "GET HELP LEN",
        "CONFIG": "GET HELP",
        "FUNCTION": "DUMP HELP LIST STATS",
        "LATENCY": "DOCTOR GRAPH HELP HISTOGRAM HISTORY LATEST",
        "MEMORY": "DOCTOR HELP MALLOC-STATS STATS",
        "MODULE": "HELP LIST",
        "OBJECT": "HELP",
        "PUBSUB": "CHANNELS HELP NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB",
        "SCRIPT": "EXISTS HELP SHOW",
        "SENTINEL": "CKQUORUM GET-MASTER-ADDR-BY-NAME HELP INFO-CACHE MASTER MASTERS MYID REPLICAS"
        " SENTINELS SLAVES",
        "SLOWLOG": "GET HELP LEN",
        "XGROUP": "HELP",
        "XINFO": "HELP",
    }.items()
    for word in _words(words)
)

# Writes that are repeatable whatever their arguments.
REPEATABLE_WRITES = frozenset(
    (
        # Overwrite what they name and answer OK.
        "HMSET",
        "MSET",
        "PSETEX",
        "SETEX",
        "JSON.MSET",
        # Overwrites bytes at an absolute offset; answers the length.
        "SETRANGE",
        # Merge what is merged already: no change, and OK again.
        "JSON.MERGE",
        "PFMERGE",
        # Settings and labels: the same value once more.
        "CLIENT SETINFO",
        "CLIENT SETNAME",
        "CONFIG SET",
        # Content-addressed: answers the same SHA-1.
        "SCRIPT LOAD",
        # Gives memory back; there is just less to give.
        "MEMORY PURGE",
    )
)

# Repeatable unless one of these words is among the options.
REPEATABLE_UNLESS = {
    # Conditions: the second execution meets what the first has made of the key. XX
    # too: with a short time to live the key may be gone again by then, and the reply
    # would say that it had never been there. GET answers the value before.
    "SET": Options(3, "NX XX GET IFEQ IFNE IFDEQ IFDNE"),
    "JSON.SET": Options(4, "NX XX"),
    "MSETEX": Options(2, "NX XX"),
    "HSETEX": Options(2, "NX XX FNX FXX"),
    # Bare or with PERSIST they answer the same value twice. A time to live may run
    # out (an absolute one may have run out already), and the second answer is nil.
    "GETEX": Options(2, "EX PX EXAT PXAT"),
    "HGETEX": Options(2, "EX PX EXAT PXAT"),
    # Flagged "write" for these subcommands and options alone; reads without them.
    "BITFIELD": Options(2, "SET INCRBY"),
    "SORT": Options(2, "STORE"),
    "GEORADIUS": Options(6, "STORE STOREDIST"),
    "GEORADIUSBYMEMBER": Options(5, "STORE STOREDIST"),
    "ACL LOG": Options(2, "RESET"),
    # Leaves a cursor behind on the server.
    "FT.AGGREGATE": Options(2, "WITHCURSOR"),
    # GT and LT compare with what the first execution has set, NX with whether it has.
    # XX passes. The rest of their condition is in RULES.
    "EXPIRE": Options(3, "NX GT LT"),
    "PEXPIRE": Options(3, "NX GT LT"),
    "EXPIREAT": Options(3, "NX GT LT"),
    "PEXPIREAT": Options(3, "NX GT LT"),
    "HEXPIRE": Options(3, "NX GT LT"),
    "HPEXPIRE": Options(3, "NX GT LT"),
    "HEXPIREAT": Options(3, "NX GT LT"),
    "HPEXPIREAT": Options(3, "NX GT LT"),
}

# Repeatable only with one of these words: without it the second execution is refused
# by what the first has made.
REPEATABLE_WITH = {
    "COPY": Options(3, "REPLACE"),
    "RESTORE": Options(4, "REPLACE"),
    "FUNCTION LOAD": Options(2, "REPLACE"),
    "FUNCTION RESTORE": Options(3, "REPLACE"),
}

# Repeatable by a rule over the arguments; the rules are functions in commands/calls.py.
RULES = {
    # Their reply says whether the key was there. It is the same twice only if what
    # they set has not made the key vanish in between (EXPIRE k 0 answers 1, then 0).
    "EXPIRE": "lives-seconds",
    "PEXPIRE": "lives-milliseconds",
    "EXPIREAT": "lives-until-seconds",
    "PEXPIREAT": "lives-until-milliseconds",
    "HEXPIRE": "lives-seconds",
    "HPEXPIRE": "lives-milliseconds",
    "HEXPIREAT": "lives-until-seconds",
    "HPEXPIREAT": "lives-until-milliseconds",
    # The destination is overwritten with what follows from the sources, and its size
    # answered. If it is a source itself, the second execution starts from the result
    # of the first (ZUNIONSTORE a 2 a b adds b's scores twice).
    "BITOP": "destination-apart",
    "GEOSEARCHSTORE": "destination-apart",
    "SDIFFSTORE": "destination-apart",
    "SINTERSTORE": "destination-apart",
    "SUNIONSTORE": "destination-apart",
    "ZDIFFSTORE": "destination-apart",
    "ZINTERSTORE": "destination-apart",
    "ZRANGESTORE": "destination-apart",
    "ZUNIONSTORE": "destination-apart",
    # LTRIM k 0 99 keeps the same hundred; LTRIM k 1 -1 drops one each time.
    "LTRIM": "keeps-an-end",
}

# Where a blocking command says how long: argument position (negative: from the end; 0:
# after the word BLOCK, and without that word it does not block) and unit in seconds.
# This is also the list of the commands that block.
TIMEOUTS = {
    "BLMOVE": (5, 1.0),
    "BLMOVEM": (5, 1.0),
    "BLMPOP": (1, 1.0),
    "BLPOP": (-1, 1.0),
    "BRPOP": (-1, 1.0),
    "BRPOPLPUSH": (3, 1.0),
    "BZMPOP": (1, 1.0),
    "BZPOPMAX": (-1, 1.0),
    "BZPOPMIN": (-1, 1.0),
    "TS.READ": (0, 0.001),
    "WAIT": (2, 0.001),
    "WAITAOF": (3, 0.001),
    "XREAD": (0, 0.001),
    "XREADGROUP": (0, 0.001),
}

# Commands that change their connection, or mean something only together with what went
# before on it; with the kind of advice that commands/command.py gives.
STATEFUL = {
    "AUTH": "auth",
    "HELLO": "auth",
    "SELECT": "select",
    "WATCH": "watch",
    "UNWATCH": "watch",
    "MULTI": "transaction",
    "EXEC": "transaction",
    "DISCARD": "transaction",
    "SUBSCRIBE": "subscribe",
    "PSUBSCRIBE": "subscribe",
    "SSUBSCRIBE": "subscribe",
    "UNSUBSCRIBE": "subscribe",
    "PUNSUBSCRIBE": "subscribe",
    "SUNSUBSCRIBE": "subscribe",
    "MONITOR": "monitor",
    "RESET": "close",
    "QUIT": "close",
    # They wait for the writes of their own connection. On another one there are none, and
    # the answer would claim a durability that nobody has seen.
    "WAIT": "wait",
    "WAITAOF": "wait",
    "ASKING": "cluster",
    "READONLY": "cluster",
    "READWRITE": "cluster",
    # The connection becomes a channel of replication or of a slot migration.
    "SYNC": "replication",
    "PSYNC": "replication",
    "REPLCONF": "replication",
    "CLUSTER SYNCSLOTS": "replication",
    "CLIENT CACHING": "own",
    "CLIENT CAPA": "own",
    "CLIENT IMPORT-SOURCE": "own",
    "CLIENT NO-EVICT": "own",
    "CLIENT NO-TOUCH": "own",
    # Replies that do not come would shift those of every other caller.
    "CLIENT REPLY": "own",
    "CLIENT TRACKING": "own",
    # Stands for the subcommands of CLIENT that the table does not know: new ones have
    # mostly been switches of the connection.
    "CLIENT": "own",
    "SCRIPT DEBUG": "own",
    # Fieldsets belong to the connection that has prepared them.
    "HIMPORT": "own",
    "HIMPORT PREPARE": "own",
    "HIMPORT SET": "own",
    "HIMPORT DISCARD": "own",
    "HIMPORT DISCARDALL": "own",
}

# Keys after a word, where the server's own description is missing (SORT) or is a search
# from the end of the command, which a key named KEYS misleads (MIGRATE). (word, search
# from, last key relative to the first or from the end, share of what follows)
KEYWORDS = {
    "MIGRATE": (("KEYS", 6, -1, 0),),
    "SORT": (("STORE", 2, 0, 0),),
}

# What may stand in the columns of policies.
POLICIES_OF = {
    "request": ("", "all_nodes", "all_shards", "multi_shard", "special"),
    "response": (
        "",
        "one_succeeded",
        "all_succeeded",
        "agg_logical_and",
        "agg_logical_or",
        "agg_min",
        "agg_max",
        "agg_sum",
        "special",
    ),
}

_EACH_NODE = ("all_nodes", "all_succeeded")
_EACH_PRIMARY = ("all_shards", "all_succeeded")

# Request and response policy of a command in a cluster, where servers say none, where they
# disagree, or where we know better. (What only one server tells is taken from it.)
POLICIES = {
    # Its answer is a number of events, which Redis 7.0 forgets: Valkey's sum is right.
    "LATENCY RESET": ("all_nodes", "agg_sum"),
    # All or nothing: in parts, one node could set its keys while another refuses. Redis 7.0
    # lets clients split it; Valkey does not, and neither do we.
    "MSETNX": ("", ""),
    # Changes the users of the node that is asked. One that keeps the old ones would let in
    # whom it should not; servers say so of ACL SETUSER, and this replaces all users.
    "ACL LOAD": _EACH_NODE,
    # To save one node of several and answer OK would read as if the data were safe.
    "SAVE": _EACH_PRIMARY,
    "BGSAVE": _EACH_PRIMARY,
    "BGREWRITEAOF": _EACH_PRIMARY,
    # Of all that was saved, the oldest: what is older than that is safe everywhere.
    "LASTSAVE": ("all_shards", "agg_min"),
    # Servers say all_shards. But one with FCALL_RO or EVAL_RO may run on a replica.
    "FUNCTION KILL": ("all_nodes", "one_succeeded"),
    "SCRIPT KILL": ("all_nodes", "one_succeeded"),
    # Each node knows its own subscribers, replicas too.
    "PUBSUB CHANNELS": ("all_nodes", "special"),
    "PUBSUB NUMPAT": ("all_nodes", "agg_sum"),
    "PUBSUB NUMSUB": ("all_nodes", "special"),
    "PUBSUB SHARDCHANNELS": ("all_nodes", "special"),
    "PUBSUB SHARDNUMSUB": ("all_nodes", "special"),
}

_ONE = (1, 1, 1)

# Commands that none of the servers asked has, from their pages at redis.io/commands: Redis
# 8, its modules, Sentinel. Only those about which something is to be said; any other is
# taken for a write that is not repeatable, with its key first.
ELSEWHERE: dict[str, Fact] = {
    "BLMOVEM": Fact(blocking=True, keys=(1, 2, 1)),
    "FT.AGGREGATE": Fact(),
    "HIMPORT": Fact(),
    "HIMPORT DISCARD": Fact(),
    "HIMPORT DISCARDALL": Fact(),
    "HIMPORT PREPARE": Fact(),
    "HIMPORT SET": Fact(keys=(2, 2, 1)),
    "JSON.MERGE": Fact(keys=_ONE),
    "JSON.MGET": Fact(readonly=True, keys=(1, -2, 1)),
    "JSON.MSET": Fact(keys=(1, -1, 3)),
    "JSON.SET": Fact(keys=_ONE),
    "LMOVEM": Fact(keys=(1, 2, 1)),
    "SENTINEL": Fact(),
    "TS.MGET": Fact(readonly=True),
    "TS.MRANGE": Fact(readonly=True),
    "TS.MREVRANGE": Fact(readonly=True),
    "TS.QUERYINDEX": Fact(readonly=True),
    "TS.READ": Fact(readonly=True, blocking=True, keys=_ONE),
    **{name: Fact() for name in PURE_READS if name.startswith("SENTINEL ")},
    **{
        name: Fact(readonly=True, keys=_ONE)
        for name in _words("""
        DIGEST
        VCARD VDIM VEMB VGETATTR VINFO VISMEMBER VLINKS VRANDMEMBER VRANGE VSIM
        JSON.ARRINDEX JSON.ARRLEN JSON.GET JSON.OBJKEYS JSON.OBJLEN JSON.RESP JSON.STRLEN JSON.TYPE
        TS.GET TS.INFO TS.RANGE TS.REVRANGE
        BF.CARD BF.EXISTS BF.INFO BF.MEXISTS
        CF.COUNT CF.EXISTS CF.INFO CF.MEXISTS
        CMS.INFO CMS.QUERY
        TOPK.INFO TOPK.LIST TOPK.QUERY
        TDIGEST.BYRANK TDIGEST.BYREVRANK TDIGEST.CDF TDIGEST.INFO TDIGEST.MAX TDIGEST.MIN
        TDIGEST.QUANTILE TDIGEST.RANK TDIGEST.REVRANK TDIGEST.TRIMMED_MEAN
        """)
    },
    **{name: Fact(readonly=True) for name in _words("FT.EXPLAIN FT.INFO FT.SEARCH FT.TAGVALS")},
}
