"""What makes a host odd: a shape, and every kind that `--with` takes."""
