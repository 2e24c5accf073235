"""``redisutils bench``: load on a server with a mix of one's own, and what came of it.

mix         which commands, in which proportion, with values of which size
data        the keys of a run: named, stored, and deleted at the end
alarm       waking tasks at moments finer than an event loop's timers
load        the generator: tasks as fast as they can, or arrivals by the clock
figures     what is counted while it runs
record      a finished run as it is saved and compared
thresholds  ``--fail-if``
run         one run from its options to its exit code
view        the terminal while it runs; painted by hand, since drawing is time that the
            commands wait
summary     the terminal afterwards: tables and the percentile plot
plot, hgrm  the same as files
"""
