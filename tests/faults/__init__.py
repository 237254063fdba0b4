"""The fault matrix: every step, every instant, every fault, on real databases."""
