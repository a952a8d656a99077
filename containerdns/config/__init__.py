"""What the operator chose: options, their values, and what the machine adds to them."""
