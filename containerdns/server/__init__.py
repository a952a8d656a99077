"""What takes queries from the network and gives responses back."""
