"""The guest in a training process: two lines in a script make its run pausable."""
