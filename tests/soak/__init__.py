"""A soak: everything that users do, for minutes, on a network and a server that fail at random.

``python -m tests.soak --help`` says how to run it; ``docs/soak.md`` what it checks.

==============  ==================================================================
``calls``       each call is timed, bounded and its outcome counted
``ledger``      what was written, and what the server must hold because of it
``world``       the server, the faulty network, the pools, and the gate for calm
``everyday``    users of the shared client
``owners``      users of connections of their own
``comers``      those who come and go: clients, pools, sizes
``weather``     the faults, by a seed
``samples``     one look a second at memory, descriptors, tasks and the server
``calm``        now and then all stand still, and everything is counted
``verdict``     what the samples must look like
``chart``       the plot
``page``        the page of the documentation
``progress``    what is seen while it runs
``run``         all of it together
==============  ==================================================================
"""
