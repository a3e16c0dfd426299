"""The report: one HTML file from records and what the models said; a function of them and of nothing else."""
