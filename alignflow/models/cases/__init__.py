"""How fixed cases call the functions that training calls: a table per family of functions."""
