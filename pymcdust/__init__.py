"""pymcdust: the temperature of interstellar dust in three dimensions."""
