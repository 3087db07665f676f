"""Where tensors lie, and how many samples a device computes at once."""
