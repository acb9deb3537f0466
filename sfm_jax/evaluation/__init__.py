"""Measures and reports: recognition, surface error, pictures without a renderer, the run report."""
