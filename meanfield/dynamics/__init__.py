"""Time: schedules, recording, and stochastic gradient descent of networks as interacting particles."""
