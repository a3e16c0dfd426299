"""What is a function of records: files, tables, leaderboard, plots, publishing."""
