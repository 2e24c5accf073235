"""Coverage-guided fuzzing of what reads the network and of what reads URLs: ``make fuzz``."""
