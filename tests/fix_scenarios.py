"""FIX's Order State Change Matrices, as rows of facts: all that FIX 5.0 SP2 with its errata of
August 2011 has of orders, volume 4, pages 57 to 94, and volume 7, pages 192 to 196 (matrices for
exchanges). Not here are B.1.f and G.1.a, which are about orders that nobody knows, and the second
orders of a matrix where they say nothing new.

A row is what happens, and what the order is afterwards:

- ``place 10000``: an order X is sent.
- ``F 1 10000 2000 8000 last 2000 @ 50 id B ref A by Y,X``: a report; ExecType, OrdStatus, OrderQty,
  CumQty, LeavesQty; the rest as far as it matters.
- ``replace Y 12000``, ``cancel Y``: a request is sent.
- ``reject Y 1``: it is refused, and OrdStatus is 1.
- ``? row``: the other branch of the matrix: it is tried, and the story goes on without it.

AvgPx, where it matters, is ``avg``. After ``place`` and its quantity comes a TimeInForce that
matters: gtc, ioc or fok. Where a matrix contradicts itself, a comment says how.
"""

SCENARIOS = {
    "A.1.a filled": """
        place 10000
        ? 8 8 10000 0 0
        0 0 10000 0 10000
        ? 8 8 10000 0 0
        F 1 10000 2000 8000 last 2000
        F 1 10000 3000 7000 last 1000
        F 2 10000 10000 0 last 7000
    """,
    "A.1.b part-filled day order, done for day": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        F 1 10000 3000 7000 last 1000
        3 3 10000 3000 0
    """,
    "B.1.a cancel of a zero-filled order": """
        place 10000
        0 0 10000 0 10000
        cancel Y
        ? reject Y 0
        6 6 10000 0 10000 by Y,X
        ? reject Y 0
        4 4 10000 0 0 by Y,X
    """,
    "B.1.b cancel of a part-filled order, executions while it is active": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        cancel Y
        F 1 10000 5000 5000 last 3000
        ? reject Y 1
        6 6 10000 5000 5000 by Y,X
        F 6 10000 6000 4000 last 1000
        ? reject Y 1
        4 4 10000 6000 0 by Y,X
    """,
    "B.1.c order is filled before the cancel can be accepted": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        cancel Y
        F 1 10000 5000 5000 last 3000
        6 6 10000 5000 5000 by Y,X
        F 6 10000 10000 0 last 5000
        reject Y 2
    """,
    # The matrix tells New after the acknowledgement, though Pending Cancel takes precedence.
    "B.1.d cancel before the order is acknowledged": """
        place 10000
        cancel Y
        6 6 10000 0 10000 by Y,X
        0 6 10000 0 10000
        ? reject Y 0
        4 4 10000 0 0 by Y,X
    """,
    "B.1.d cancelled before the order is acknowledged": """
        place 5000
        cancel Y
        6 6 5000 0 5000 by Y,X
        4 4 5000 0 0 by Y,X
    """,
    "B.1.e cancel and acknowledgement cross": """
        place 10000
        cancel Y
        0 0 10000 0 10000
        6 6 10000 0 10000 by Y,X
        4 4 10000 0 0 by Y,X
    """,
    "C.1.a zero-filled, replace to increase": """
        place 10000
        0 0 10000 0 10000
        replace Y 11000
        ? reject Y 0
        E E 10000 0 10000 by Y,X
        ? reject Y 0
        5 0 11000 0 11000 by Y,X
        F 1 11000 1000 10000 last 1000 by Y
        F 1 11000 3000 8000 last 2000 by Y
    """,
    "C.1.b part-filled, replace to increase, execution while pending": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 12000
        ? reject Y 1
        E E 10000 1000 9000 by Y,X
        F E 10000 1100 8900 last 100
        ? reject Y 1
        5 1 12000 1100 10900 by Y,X
        F 2 12000 12000 0 last 10900 by Y
    """,
    "C.1.c filled, replace to increase": """
        place 10000
        0 0 10000 0 10000
        F 2 10000 10000 0 last 10000
        replace Y 12000
        ? reject Y 2
        E E 10000 10000 0 by Y,X
        ? reject Y 2
        5 1 12000 10000 2000 by Y,X
        F 2 12000 12000 0 last 2000 by Y
    """,
    "C.2.a replace not for quantity, refused as a fill has occurred": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 10000
        F 2 10000 10000 0 last 9000
        reject Y 2
    """,
    "C.3.a replace to decrease, more than is executed": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 8000
        F 1 10000 1500 8500 last 500
        ? reject Y 1
        E E 10000 1500 8500 by Y,X
        F E 10000 1600 8400 last 100
        ? reject Y 1
        5 1 8000 1600 6400 by Y,X
        F 2 8000 8000 0 last 6400 by Y
    """,
    "C.3.b replace to decrease, to what is executed": """
        place 10000
        0 0 10000 0 10000
        replace Y 7000
        F 1 10000 7000 3000 last 7000
        5 2 7000 7000 0 by Y,X
    """,
    "C.3.c replace to decrease, below what is executed: amended to it": """
        place 10000
        0 0 10000 0 10000
        replace Y 7000
        F 1 10000 8000 2000 last 8000
        5 2 8000 8000 0 by Y,X
    """,
    "D.1.a one replace accepted, then another": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 8000
        E E 10000 1000 9000 by Y,X
        F E 10000 1500 8500 last 500
        5 1 8000 1500 6500 by Y,X
        F 1 8000 3500 4500 last 2000 by Y
        replace Z 6000
        E E 8000 3500 4500 by Z,Y
        F E 8000 4000 4000 last 500 by Y
        5 1 6000 4000 2000 by Z,Y
        F 2 6000 6000 0 last 2000 by Z
    """,
    "D.1.b one replace refused before it is pending, then another accepted": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 8000
        reject Y 1
        F 1 10000 1500 8500 last 500
        F 1 10000 3500 6500 last 2000
        replace Z 6000
        E E 10000 3500 6500 by Z,X
        5 1 6000 3500 2500 by Z,X
        F 1 6000 5000 1000 last 1500 by Z
    """,
    "D.1.c one replace refused after it is pending, then another accepted": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 8000
        E E 10000 1000 9000 by Y,X
        F E 10000 1500 8500 last 500
        reject Y 1
        F 1 10000 3500 6500 last 2000
        replace Z 6000
        E E 10000 3500 6500 by Z,X
        ? reject Z 1
        5 1 6000 3500 2500 by Z,X
        F 1 6000 5000 1000 last 1500 by Z
    """,
    "D.2.a two replaces at once, processed one after the other": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 8000
        replace Z 7000
        E E 10000 1000 9000 by Y,X
        5 1 8000 1000 7000 by Y,X
        E E 8000 1000 7000 by Z,Y
        5 1 7000 1000 6000 by Z,Y
        F 2 7000 7000 0 last 6000 by Z
    """,
    # The matrix tells an OrderQty of 8000 for the fourth report, before the replacement by 8000.
    "D.2.b two replaces at once, both pending before either is accepted": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 8000
        replace Z 7000
        E E 10000 1000 9000 by Y,X
        E E 10000 1000 9000 by Z,X
        5 E 8000 1000 7000 by Y,X
        5 1 7000 1000 6000 by Z,Y
        F 2 7000 7000 0 last 6000 by Z
    """,
    "D.2.c two replaces at once, both refused": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 8000
        replace Z 7000
        E E 10000 1000 9000 by Y,X
        reject Y 1
        E E 10000 1000 9000 by Z,X
        reject Z 1
        F 1 10000 7000 3000 last 6000
    """,
    "D.2.d two replaces at once, the second refused as the first is pending": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        replace Y 8000
        replace Z 7000
        E E 10000 1000 9000 by Y,X
        reject Z E
        5 1 8000 1000 7000 by Y,X
        F 1 8000 3000 5000 last 2000 by Y
    """,
    "E.1.a telephoned order": """
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        F 1 10000 3000 7000 last 1000
        F 2 10000 10000 0 last 7000
    """,
    "E.1.b unsolicited cancel of a part-filled order": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        4 4 10000 1000 0
    """,
    "E.1.c unsolicited replacement": """
        place 10000
        0 0 10000 0 10000
        D 0 11000 0 11000
        F 1 11000 1000 10000 last 1000
        D 1 12000 1000 11000
    """,
    "E.1.d unsolicited reduction": """
        place 10000
        0 0 10000 0 10000
        D 0 9000 0 9000
        F 2 9000 9000 0 last 9000
    """,
    "E.1.e unsolicited cancel of an order that is no longer the best": """
        place 10000
        0 0 10000 0 10000
        4 4 10000 0 0
    """,
    "E.1.f order that waits until it is triggered": """
        place 10000
        ? 8 8 10000 0 0
        0 0 10000 0 10000
        L 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        F 2 10000 10000 0 last 8000
    """,
    "F.1.a order rejected for its ClOrdID, which another has": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        8 1 10000 1000 9000
    """,
    "F.1.b possible resend": """
        place 10000
        0 0 10000 0 10000
        I 0 10000 0 10000
        8 0 10000 0 10000
    """,
    "F.1.c order rejected as it was given by telephone before": """
        place 10000
        8 8 10000 0 0
    """,
    "G.1.b nothing done": """
        place 10000
        0 0 10000 0 10000
        I 0 10000 0 10000
    """,
    "G.1.c order status, asked for again and again": """
        place 10000
        I A 10000 0 10000
        ? 8 8 10000 0 0
        0 0 10000 0 10000
        I 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        I 1 10000 2000 8000
        F 2 10000 10000 0 last 8000
        I 2 10000 10000 0
        replace Y 12000
        E E 10000 10000 0 by Y,X
        5 1 12000 10000 2000 by Y,X
        I 1 12000 10000 2000
        I 1 12000 10000 2000 by Y
    """,
    "H.1.a GTC order restated and part-filled the following day": """
        place 10000 gtc
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        3 3 10000 2000 8000
        D 1 10000 2000 8000
        F 1 10000 3000 7000 last 1000
    """,
    "H.1.b GTC order split two for one": """
        place 10000 gtc
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000 @ 50 avg 50
        3 3 10000 2000 8000
        D 1 20000 4000 16000 avg 25
        F 1 20000 9000 11000 last 5000 @ 20 avg 22.2222
        F 2 20000 20000 0 last 11000 @ 20
    """,
    "H.1.c GTC order restated and cancelled the following day": """
        place 10000 gtc
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        3 3 10000 2000 8000
        ? 6 6 10000 2000 8000 by Y,X
        D 1 10000 2000 8000
        cancel Y
        ? reject Y 1
        6 6 10000 2000 8000 by Y,X
        ? reject Y 1
        4 4 10000 2000 0 by Y,X
    """,
    "H.1.d GTC order restated and replaced the following day": """
        place 10000 gtc
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        3 3 10000 2000 8000
        D 1 10000 2000 8000
        replace Y 15000
        ? reject Y 1
        E E 10000 2000 8000 by Y,X
        F E 10000 3000 7000 last 1000
        ? reject Y 1
        5 1 15000 3000 12000 by Y,X
    """,
    "I.1.a fill or kill that cannot be filled": """
        place 10000 fok
        ? 8 8 10000 0 0
        0 0 10000 0 10000
        4 4 10000 0 0
    """,
    "I.1.b immediate or cancel, part-filled": """
        place 10000 ioc
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000
        4 4 10000 1000 0
    """,
    "J.1.a filled, followed by corrections and a bust": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000 @ 100 id C avg 100
        F 2 10000 10000 0 last 9000 @ 110 id D avg 109
        H 1 10000 9000 1000 id E ref C avg 110
        G 1 10000 9000 1000 last 9000 @ 100 id F ref D avg 100
        F 2 10000 10000 0 last 1000 @ 120 id G avg 102
        G 2 10000 10000 0 last 9000 @ 120 id H ref F avg 120
        replace Y 12000
        E E 10000 10000 0 by Y,X
        5 1 12000 10000 2000 by Y,X
        G 1 12000 10500 1500 last 9500 @ 120 id K ref H by Y avg 120
    """,
    "J.1.b cancelled, followed by a bust and a late fill": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 5000 5000 last 5000 @ 50 id B
        cancel Y
        6 6 10000 5000 5000 by Y,X
        4 4 10000 5000 0 by Y,X
        H 4 10000 0 0 id E ref B
        F 4 10000 4000 0 last 4000 @ 51 avg 51
    """,
    "J.1.c GTC order, corrections of two days' executions": """
        place 10000 gtc
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000 id B
        3 3 10000 2000 8000
        D 1 10000 2000 8000
        F 1 10000 3000 7000 last 1000 id E
        G 1 10000 2500 7500 last 1500 id F ref B
        G 1 10000 2000 8000 last 500 id G ref E
    """,
    "J.1.d done for day, followed by a correction and a bust": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 5000 5000 last 5000 @ 50 id B
        3 3 10000 5000 0
        G 3 10000 4000 0 last 4000 @ 50 id D ref B
        H 3 10000 0 0 id E ref D
    """,
    "K.1.a trading halt, after which the order goes on": """
        place 10000
        ? 8 8 10000 0 0
        0 0 10000 0 10000
        F 2 10000 10000 0 last 10000
    """,
    "K.1.b trading halt, which cancels the order": """
        place 10000
        0 0 10000 0 10000
        4 4 10000 0 0
    """,
    "L.1.a guaranteed execution": """
        place 10000
        0 0 10000 0 10000
        7 7 10000 0 10000
        F 7 10000 1000 9000 last 1000 @ 50 avg 50
    """,
    "L.1.b order for an amount of money": """
        place cash 10000
        ? 8 8 0 0 0
        0 0 500 0 500
        F 1 500 200 300 last 200 @ 20.1
        F 2 500 500 0 last 300 @ 20.2
    """,
    # Those for exchanges, which may leave out New and tell two things in one report.
    "exchange A.1.c filled at once": """
        place 10000
        ? 8 8 10000 0 0
        F 2 10000 10000 0 last 10000
    """,
    "exchange A.1.d part-filled at once": """
        place 10000
        F 1 10000 7000 3000 last 7000
    """,
    "exchange I.1.a fill or kill that cannot be filled, in one report": """
        place 10000 fok
        4 4 10000 0 0
    """,
    "exchange I.1.b immediate or cancel, in two reports": """
        place 10000 ioc
        F 1 10000 1000 9000 last 1000
        4 4 10000 1000 0
    """,
    # The matrix tells a LeavesQty of 9000, though nothing of it is left.
    "exchange I.1.b immediate or cancel, in one report": """
        place 10000 ioc
        F 4 10000 1000 0 last 1000
    """,
    # What the rules beside the matrices say.
    "filled, pending new first": """
        place 10000
        A A 10000 0 10000
        0 0 10000 0 10000
        F 2 10000 10000 0 last 10000
    """,
    "vector: bust of the second": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 1000 9000 last 1000 @ 100 id A avg 100
        F 2 10000 10000 0 last 9000 @ 110 id B avg 109
        ? G 2 10000 10000 0 last 9000 @ 100 id C ref B avg 100
        ? H 1 10000 9000 1000 id C ref A avg 110
        H 1 10000 1000 9000 id C ref B avg 100
    """,
    "both pending: the cancel shows": """
        place 10000
        0 0 10000 0 10000
        replace Y 8000
        cancel Z
        E E 10000 0 10000 by Y,X
        6 6 10000 0 10000 by Z,X
        ? reject Z E
        5 6 8000 0 8000 by Y,X
        4 4 8000 0 0 by Z,Y
    """,
    "pending again while the cancel is pending": """
        place 10000
        0 0 10000 0 10000
        cancel Z
        6 6 10000 0 10000 by Z,X
        E 6 10000 0 10000 by Y,X
        5 6 8000 0 8000 by Y,X
        reject Z 0
    """,
    "expired, corrected afterwards": """
        place 10000
        0 0 10000 0 10000
        F 1 10000 4000 6000 last 4000 id A
        C C 10000 4000 0
        F C 10000 5000 0 last 1000 id B
        G C 10000 2000 0 last 1000 id D ref A
    """,
    "calculated, corrected afterwards": """
        place 10000
        0 0 10000 0 10000
        F 2 10000 10000 0 last 10000 @ 5 id A
        B B 10000 10000 0
        H B 10000 0 0 id C ref A
    """,
    "suspended, traded, restated": """
        place 10000
        0 0 10000 0 10000
        9 9 10000 0 10000
        F 9 10000 1000 9000 last 1000 id A
        H 9 10000 0 10000 id B ref A
        D 0 10000 0 10000
    """,
    "done for day, traded the following day without a restatement": """
        place 10000 gtc
        0 0 10000 0 10000
        F 1 10000 2000 8000 last 2000
        3 3 10000 2000 8000
        ? F 3 10000 3000 7000 last 1000
        F 1 10000 3000 7000 last 1000
        F 2 10000 10000 0 last 7000
    """,
    "rejected while a cancel is pending": """
        place 10000
        cancel Y
        6 6 10000 0 10000 by Y,X
        8 8 10000 0 0
        reject Y 8
    """,
    "an amount of money, executed without New": """
        place cash 10000
        F 1 500 200 300 last 200 @ 20.1
        F 2 500 500 0 last 300 @ 20.2
    """,
    "a bust of all that was filled before the acknowledgement leaves it new": """
        place 10000
        F 1 10000 4000 6000 last 4000 id A
        H 0 10000 0 10000 id B ref A
    """,
}
