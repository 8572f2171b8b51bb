"""What is stored: artifacts, their locks and pins, what may go, and what past runs left."""
