"""What frozen layers make of the data, computed once."""
