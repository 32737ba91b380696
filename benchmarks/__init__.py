"""Recall, latency, build: measured, as JSON and plots. Not installed."""
