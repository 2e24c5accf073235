"""``redisutils check``: what is wrong with my set-up, and what to do about it.

It reads; it never writes to the server, and touches no key. No secret is printed.

    finding      what was found: severity, words, remedy, facts
    case         what the steps have learnt so far
    steps        the order of the steps, and what each stands on
    run          from the command line's options to its exit code
    view         the terminal, the pipe and JSON

    settings, names, port, tls, login, server, rights, memory, persistence, clients, replication,
    slowlog, latency, clock, process: the steps
    peer         who answers at a port, whatever was expected there
    units        durations and sizes for reading
"""
