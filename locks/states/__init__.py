"""What documents say: the states of latches, barriers, elections and stock, and their steps; pure, no I/O, no clock."""
