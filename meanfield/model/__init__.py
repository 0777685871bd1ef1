"""What is trained and on what: activations, losses, data laws, networks, risk."""
