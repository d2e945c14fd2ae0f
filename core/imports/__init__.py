"""Files of measurements: what their columns mean, how they are read, what is wrong with a row."""
