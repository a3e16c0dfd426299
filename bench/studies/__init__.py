"""What compares many runs: ablations, reproductions of papers, claims."""
