"""What people take away: maps, figures, queries and renderings of a fit."""
