"""What the peers run on the controller, by the Python of their own virtual environment; fleet is not installed there."""
