"""A grocery shop of three services, once written plainly and once with Backstay; see README.md."""
