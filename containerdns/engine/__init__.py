"""What talks to Docker Engines; the only user of the docker package."""
