"""What happens when a part of the data path is stopped, full or hostile; docs/guarantees.md."""
