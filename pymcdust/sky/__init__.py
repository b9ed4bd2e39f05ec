"""What was observed: the sky contract, and the road from survey files to a sky."""
