"""The demo around the two shops: real baskets in, faults on the way, the books read at the end."""
