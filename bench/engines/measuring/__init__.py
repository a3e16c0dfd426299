"""Asking a checkpoint: log-probs, generations, divergences, gradient norms, lm-eval, judges."""
