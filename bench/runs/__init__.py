"""From what the user typed to a record: plan, store, workers, runner."""
