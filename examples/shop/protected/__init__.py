"""The same shop with Backstay."""
