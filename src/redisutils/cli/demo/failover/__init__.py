"""``redisutils demo --kill``: a primary dies while tasks write, and every write is accounted for.

book     one task: its writes, what became of each, and what the servers hold in the end
killing  the death, the election, the return
story    all of it as it happens, and in figures
view     the terminal: live or line by line
account  the closing table
run      from the options to the exit code
"""
