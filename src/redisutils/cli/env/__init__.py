"""``redisutils env``: every setting explained, or what is in force and where it comes from.

catalogue  the settings by section, with their meaning, read from RedisConfig itself
template   them as a commented .env, which is also the repository's .env.example
effective  what is in force, and where each value comes from
view       that on the terminal
"""
