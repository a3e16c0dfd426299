"""Spreading a command's jobs over a cluster that SLURM manages."""
