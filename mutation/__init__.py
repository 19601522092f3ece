"""Mutation testing: what it runs, and which mutants may live."""
