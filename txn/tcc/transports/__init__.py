"""Ways to a branch: in this process, and over HTTP."""
