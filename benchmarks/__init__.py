"""Benchmarks of vitdemo: each compares two ways in one interleaved run and gives their ratio."""
