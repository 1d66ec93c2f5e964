"""The commands that make what lies in `data/`: checkpoints, statistics, studies."""
