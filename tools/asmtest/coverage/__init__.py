"""Which instructions and jump directions the tests have taken."""
