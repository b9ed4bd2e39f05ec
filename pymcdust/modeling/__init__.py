"""What is believed of dust: declarations of parameters and the model that they make."""
