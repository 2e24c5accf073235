"""Orders as FIX 5.0 SP2 knows them: a pure state machine, and the service that keeps them."""
