"""Where splitting pays and what bottlenecks cost: the networks that two studies train, and their arithmetic."""
