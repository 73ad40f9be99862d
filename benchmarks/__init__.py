"""Speed beside a floor measured in the same run: `make bench`, or `python -m benchmarks`."""
