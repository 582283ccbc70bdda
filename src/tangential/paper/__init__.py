"""What the paper claims, checked without the training system: its theory and its toys."""
