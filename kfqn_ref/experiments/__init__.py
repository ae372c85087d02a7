"""Runs on real data: training, the comparison of reference and torch, and what they print, write and plot."""
