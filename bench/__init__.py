"""`python -m bench`: this package measured beside others. See README.md."""
