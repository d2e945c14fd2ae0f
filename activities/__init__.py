"""Side effects of workflows, a file per family."""
