"""Reading from replicas: whom to ask, how far behind each is, and when to ask a second one.

========= =====================================================================================
module    what it is
========= =====================================================================================
figures   what is known of one server that has a copy of the data
choosing  from those figures, the settings and the zone, to who is asked
standing  what a server tells of its replication, and what follows from two of them
watching  keeps the figures: one look a second at those that are read from
writes    what this program has written lately, slot by slot
hedging   asking a second one when the first takes longer than is usual
reader    what all lanes that read from copies have in common
========= =====================================================================================

None of it knows of slots or sentinels: a server that has a copy is a ``Copy``, wherever it is.
"""
