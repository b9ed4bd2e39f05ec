"""How belief meets data: compiled log posteriors, and what is made of them."""
