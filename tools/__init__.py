"""What we need to build the project, and nobody to run it."""
