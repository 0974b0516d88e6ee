"""Figures, not tests: each module measures one promise beside its contenders and prints a table."""
