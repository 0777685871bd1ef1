"""What the mean-field theory predicts, and the statistics by which simulations are held against it."""
