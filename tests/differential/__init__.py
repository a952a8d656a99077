"""Our zone in other people's servers."""
