"""The protocol: parsing queries, building responses, caching both."""
