"""``redisutils demo``: a trading day on the trading services, shown live, every value checked.

A tape goes into the market data, traders place orders, a venue executes them against the tape. What
the screen shows it reads from the database; what was sent is remembered here, and compared.

    source, instruments, clock   where trades come from, and their time
    ladder, feed                 quotes and books made around them; all of it written
    venue, trader                who executes orders, and who places them
    blotter                      what is read: live feeds, the book, what positions are worth
    day, statement               all of them at work; the closing check
    keys                         every key of a run, to be deleted in the end
    figures, checks              what is measured and compared
    view, panels, health         the terminal: live, or line by line
    summary, plot                the closing account, and the latency picture
    failover                     --kill: a primary dies
"""
